import pytest

from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config


def config(attributes: str, tag: str = "View") -> LabelConfig:
    """Return a config with the control "hidden" under the given condition, beside "a" and "b"."""
    choices = '<Choices name="{}" toName="image" {}><Choice value="X" alias="x"/><Choice value="Y"/></Choices>'
    if tag == "Choices":
        under = choices.format("hidden", attributes)
    else:
        under = f"<View {attributes}>{choices.format('hidden', '')}</View>"
    return parse_label_config(
        f'<View><Image name="image" value="$image"/>{choices.format("a", "")}{choices.format("b", "")}{under}</View>'
    )


SELECTED = 'visibleWhen="choice-selected"'
UNSELECTED = 'visibleWhen="choice-unselected"'


@pytest.mark.parametrize("tag", ["View", "Choices"])
@pytest.mark.parametrize(
    ("attributes", "filled", "seen"),
    [
        ("", {}, True),
        (SELECTED, {}, False),
        (SELECTED, {"b": "Y"}, True),
        (f'{SELECTED} whenTagName="a"', {"b": "Y"}, False),
        (f'{SELECTED} whenTagName="a"', {"a": "Y"}, True),
        (f'{SELECTED} whenTagName="a" whenChoiceValue="Y"', {"a": "Y"}, True),
        (f'{SELECTED} whenTagName="a" whenChoiceValue="X"', {"a": "x"}, True),
        (f'{SELECTED} whenTagName="a" whenChoiceValue="x"', {"a": "x"}, True),
        (f'{SELECTED} whenTagName="a" whenChoiceValue="X,Y"', {"a": "Y"}, True),
        (f'{SELECTED} whenTagName="a" whenChoiceValue="X"', {"a": "Y"}, False),
        (f'{SELECTED} whenTagName="none" whenChoiceValue="X"', {"a": "x"}, False),
        (UNSELECTED, {}, True),
        (f'{UNSELECTED} whenTagName="a" whenChoiceValue="X"', {"a": "x"}, False),
        (f'{UNSELECTED} whenTagName="a" whenChoiceValue="X"', {"a": "Y"}, True),
        ('visibleWhen="region-selected"', {"a": "x"}, False),
        ('visibleWhen="no-region-selected"', {}, True),
        ('visibleWhen="something else"', {}, True),
        ('whenTagName="a"', {}, True),
        ('whenChoiceValue="Y"', {"b": "Y"}, True),
        ('whenChoiceValue="Y"', {"b": "x"}, False),
        ('VISIBLEWHEN="choice-selected"', {}, False),
    ],
)
def test_condition(tag: str, attributes: str, filled: dict[str, str], seen: bool) -> None:
    paths = {control: (name,) for control, name in filled.items()} | {"hidden": ("Y",)}
    shown = {"a", "b"} | ({"hidden"} if seen else set())
    if attributes in {SELECTED, UNSELECTED, 'VISIBLEWHEN="choice-selected"'} or "whenTagName" not in attributes:
        del paths["hidden"]  # any filled control would fulfil the condition
    assert config(attributes, tag).visible(paths) == shown


def test_a_hidden_control_shows_no_other() -> None:
    control = '<Choices name="{}" toName="image" {}><Choice value="X"/></Choices>'
    chain = [
        control.format("a", ""),
        control.format("b", 'visibleWhen="choice-selected" whenTagName="a"'),
        control.format("c", 'visibleWhen="choice-selected" whenTagName="b"'),
    ]
    config = parse_label_config(f'<View><Image name="image" value="$image"/>{"".join(chain)}</View>')
    assert config.visible({"b": ("X",), "c": ("X",)}) == {"a"}
    assert config.visible({"a": ("X",), "b": ("X",)}) == {"a", "b", "c"}


def test_conditions_in_a_circle_hide_both() -> None:
    control = (
        '<Choices name="{}" toName="image" visibleWhen="choice-selected" whenTagName="{}"><Choice value="X"/></Choices>'
    )
    xml = f'<View><Image name="image" value="$image"/>{control.format("a", "b")}{control.format("b", "a")}</View>'
    assert parse_label_config(xml).visible({"a": ("X",), "b": ("X",)}) == set()


def test_the_last_name_of_a_taxonomy_path_is_compared() -> None:
    xml = """<View><Image name="image" value="$image"/>
        <Taxonomy name="t" toName="image"><Choice value="A"><Choice value="B"/></Choice></Taxonomy>
        <Taxonomy name="u" toName="image" visibleWhen="choice-selected" whenTagName="t" whenChoiceValue="A">
        <Choice value="C"/></Taxonomy></View>"""
    config = parse_label_config(xml)
    assert config.visible({"t": ("A",)}) == {"t", "u"}
    assert config.visible({"t": ("A", "B")}) == {"t"}
