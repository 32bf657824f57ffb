import time
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.tree import MAX_LEVELS, Tree

IMAGE = '<Image name="image" value="$image"/>'


def view(*tags: str) -> str:
    return f"<View>{IMAGE}{''.join(tags)}</View>"


def taxonomy(choices: str = '<Choice value="A"/>', attributes: str = "", name: str = "t") -> str:
    return f'<Taxonomy name="{name}" toName="image" {attributes}>{choices}</Taxonomy>'


def test_recorded_config(config: LabelConfig) -> None:
    (tree,) = config.trees  # the yes/no question beside the taxonomy is not learned
    assert (tree.control, tree.to_name, tree.kind, config.images) == ("media", "image", "taxonomy", {"image": "$image"})
    assert tree.paths == (
        ("Badezimmersysteme",),
        ("Badezimmersysteme", "Geberit AquaClean"),
        ("Badezimmersysteme", "Geberit AquaClean", "WC-Komplettanlagen"),
        ("Badezimmersysteme", "Geberit AquaClean", "WC-Aufsätze"),
        ("Badezimmersysteme", "Waschtische"),
        ("Sanitärsysteme",),
        ("Sanitärsysteme", "Installationssysteme"),
        ("Sanitärsysteme", "Installationssysteme", "Duofix"),
        ("Sort Out",),
    )


def test_names_are_those_of_label_studio_s_own_parser(recorded: Callable[[str], dict[str, str]]) -> None:
    xml = view(taxonomy('<Choice value="Bath" alias="b"><Choice value=" Two  words "/></Choice><Choice value="C"/>'))
    for text in (xml, recorded("project.json")["label_config"]):
        for tree in parse_label_config(text).trees:
            labels = LabelInterface(text).get_control(tree.control).labels  # type: ignore[no-untyped-call]
            assert {path[-1] for path in tree.paths} == set(labels)


def test_attributes() -> None:
    (tree,) = parse_label_config(view(taxonomy(attributes='leafsOnly="true" maxUsages="2"'))).trees
    assert (tree.leafs_only, tree.max_usages, tree.multiple) == (True, 2, True)
    (tree,) = parse_label_config(view(taxonomy())).trees
    assert (tree.leafs_only, tree.max_usages) == (False, None)


def test_the_alias_names_the_node() -> None:
    choices = '<Choice value="Bath" alias="b"><Choice value="Toilet" alias="wc"/><Choice value="Tub"/></Choice>'
    (tree,) = parse_label_config(view(taxonomy(choices))).trees
    assert tree.paths == (("b",), ("b", "wc"), ("b", "Tub"))


def test_several_taxonomies_on_several_images() -> None:
    xml = f"""<View>{IMAGE}<Image name="back" value="$back_side"/><Text name="words" value="$text"/>
        <Taxonomy name="kind" toName="back"><Choice value="A"/></Taxonomy>
        <Taxonomy name="topic" toName="words"><Choice value="T"/></Taxonomy>
        <View><Taxonomy name="colour" toName="image"><Choice value="Red"/></Taxonomy></View></View>"""
    config = parse_label_config(xml)
    assert [(tree.control, tree.to_name) for tree in config.trees] == [("kind", "back"), ("colour", "image")]
    assert config.images == {"back": "$back_side", "image": "$image"}
    assert config.first_image == "back"
    assert config.tree("colour").paths == (("Red",),)
    with pytest.raises(ConfigError, match=r'no taxonomy "size".*kind, colour'):
        config.tree("size")


def test_choices_are_a_tree_of_depth_one() -> None:
    xml = view(
        '<Choices name="c" toName="image" choice="multiple"><Header value="h"/><Choice value="A"><Choice value="no"/>'
        '</Choice><View><Choice value="B" alias="b"/></View></Choices>',
        '<Choices name="d" toName="image"><Choice value="A"/></Choices>',
        '<Choices name="similar" toName="image" value="$similar"/>',
        '<Choices name="region" toName="image" perRegion="true"><Choice value="A"/></Choices>',
    )
    first, second = parse_label_config(xml).trees
    assert (first.paths, first.kind, first.multiple, first.depth) == ((("A",), ("b",)), "choices", True, 1)
    assert (second.control, second.multiple) == ("d", False)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "read as XML"),
        ("<View>", "read as XML"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "read as XML"),
        (f'<View>{taxonomy()}<Text name="text" value="$text"/></View>', "no image"),
        (f'<View><Image name="image" valueList="$images"/>{taxonomy()}</View>', r'valueList="\$images" is a list'),
        (f'<View><Image name="image" value="https://x/logo.png"/>{taxonomy()}</View>', "names no field of the task"),
        (f'<View><Image name="image"/>{taxonomy()}</View>', "names no field of the task"),
        (f'<View><Video name="image" value="$video"/>{taxonomy()}</View>', 'it labels the <Video> "image"'),
        (view('<Text name="w" value="$w"/><Choices name="c" toName="w"><Choice value="A"/></Choices>'), '<Text> "w"'),
        (view(taxonomy(attributes='perItem="true"')), "perItem"),
        (view(f'<Repeater on="$parts">{taxonomy(name="t_{{idx}}")}</Repeater>'), r'<Repeater on="\$parts">'),
        (
            '<View><Repeater on="$pages"><Image name="p_{{idx}}" value="$pages[{{idx}}]"/>'
            '<View><Taxonomy name="t_{{idx}}" toName="p_{{idx}}"><Choice value="A"/></Taxonomy></View>'
            "</Repeater></View>",
            r'"t_\{\{idx\}\}": it is in a <Repeater',
        ),
        (
            view('<Image name="b" value="$b"/><Taxonomy name="t" toName="image,b"><Choice value="A"/></Taxonomy>'),
            "several images",
        ),
        # a Taxonomy that cannot be served is not replaced by a side question
        (
            view(taxonomy("", 'apiUrl="x"'), '<Choices name="c" toName="image"><Choice value="A"/></Choices>'),
            "apiUrl",
        ),
        (view(), "no <Taxonomy>"),
        (view('<Choices name="c" toName="words"><Choice value="A"/></Choices>'), "no <Taxonomy>"),
        (view(taxonomy(attributes='perRegion="true"')), "whole image"),
        (view(taxonomy("")), "no choices"),
        (view(taxonomy("", 'apiUrl="https://example.com/tree.json"')), r"apiUrl=.*nested <Choice>"),
        (view(taxonomy("", 'value="$options"')), r"value=.\$options"),
        (view('<Choices name="c" toName="image" value="$options"/>'), r"value=.\$options"),
        (view(taxonomy('<Choice value="A"/><Choice value="B" alias="A"/>')), '"A" is in "t" twice'),
        (view(taxonomy('<Choice value=""/>')), "empty name"),
        (view(taxonomy("<Choice/>")), "empty name"),
        (view(taxonomy(name="")), "no name"),
        (view(taxonomy(), taxonomy()), "same name"),
        (view(taxonomy(attributes='maxUsages="many"')), "maxUsages"),
        (view(taxonomy(attributes='maxUsages="0"')), "maxUsages"),
    ],
)
def test_what_cannot_be_learned_is_said(xml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_label_config(xml)


@pytest.mark.parametrize("value", ["$x", "$10", "from $low to $high", "$x[0].y"])
def test_the_name_of_a_choice_that_differs_by_task(value: str) -> None:
    """Label Studio's editor fills fields into the choices of a <Choices>, not into those of a <Taxonomy>."""
    inside = f'<View><Choice value="{value}"/></View><Choice value="A"/>'
    choices = f'<Choices name="c" toName="image">{inside}</Choices>'
    with pytest.raises(ConfigError, match=r"differs by task; write the name into the config, or give an alias"):
        parse_label_config(view(choices))
    with_alias = choices.replace(f'value="{value}"', f'value="{value}" alias="x"')
    assert parse_label_config(view(with_alias)).trees[0].paths == (("x",), ("A",))
    (tree,) = parse_label_config(view(taxonomy(f'<Choice value="{value}"/>'))).trees
    assert tree.paths == ((value,),)


@pytest.mark.parametrize("value", ["$", "$ 10", "US$", "a$ b"])
def test_a_dollar_that_is_no_field(value: str) -> None:
    xml = view(f'<Choices name="c" toName="image"><Choice value="{value}"/></Choices>')
    assert parse_label_config(xml).trees[0].paths == ((value,),)
    assert parse_label_config(xml).notes == ()


def test_a_control_that_cannot_be_served_beside_others_has_its_reason() -> None:
    xml = view(
        taxonomy(),
        '<Video name="clip" value="$clip"/><Taxonomy name="scene" toName="clip"><Choice value="A"/></Taxonomy>',
        f'<Repeater on="$parts">{taxonomy(name="t_{{idx}}")}</Repeater>',
    )
    config = parse_label_config(xml)
    assert [tree.control for tree in config.trees] == ["t"]
    assert {name: reason[:20] for name, reason in config.not_served.items()} == {
        '<Taxonomy> "scene"': "it labels the <Video",
        '<Taxonomy> "t_{{idx}}"': "it is in a <Repeater",
    }


def test_a_shared_store_gives_its_choices_to_each_control() -> None:
    shared = 'sharedStore="kinds"'
    xml = view(taxonomy('<Choice value="A"><Choice value="B"/></Choice>', shared), taxonomy("", shared, name="second"))
    first, second = parse_label_config(xml).trees
    assert first.paths == second.paths == (("A",), ("A", "B"))


def test_each_image_has_its_controls_and_its_address() -> None:
    xml = """<View><Image name="left" value="$a"/><Image name="right" value="https://x/$folder/$file"/>
        <Taxonomy name="l" toName="left"><Choice value="A"/></Taxonomy>
        <Taxonomy name="r" toName="right"><Choice value="A"/></Taxonomy></View>"""
    config = parse_label_config(xml)
    assert [[tree.control for tree in config.trees_of(name)] for name in ("left", "right")] == [["l"], ["r"]]
    assert config.trees_of("middle") == ()
    assert config.addresses({"a": "1.jpg", "folder": "f", "file": "2.jpg"}) == {
        "left": "1.jpg",
        "right": "https://x/f/2.jpg",
    }
    assert config.addresses({"folder": "f", "file": "2.jpg"}) == {"right": "https://x/f/2.jpg"}


def test_a_field_without_a_name_is_that_of_the_first_image() -> None:
    assert parse_label_config(view(taxonomy())).addresses({"$undefined$": "1.jpg"}) == {"image": "1.jpg"}


def test_a_hidden_control_is_not_visible() -> None:
    xml = view(
        '<Choices name="warmth" toName="image"><Choice value="Warm" alias="w"/><Choice value="Cold"/></Choices>',
        '<View visibleWhen="choice-selected" whenTagName="warmth" whenChoiceValue="Warm">'
        '<View><Choices name="shade" toName="image"><Choice value="Red"/></Choices></View></View>',
    )
    config = parse_label_config(xml)
    assert config.visible({"warmth": ("w",), "shade": ("Red",)}) == {"warmth", "shade"}
    assert config.visible({"warmth": ("Cold",), "shade": ("Red",)}) == {"warmth"}


def test_ten_thousand_nodes_cost_little_more_than_reading_the_xml() -> None:
    leaves = "".join(f'<Choice value="leaf {n}"/>' for n in range(9))
    inner = "".join(f'<Choice value="inner {n}">{leaves}</Choice>' for n in range(10))
    xml = view(taxonomy("".join(f'<Choice value="top {n}">{inner}</Choice>' for n in range(100))))
    assert len(parse_label_config(xml).trees[0]) == 10_100
    plain = min(_seconds(ElementTree.fromstring, xml) for _ in range(5))
    ours = min(_seconds(lambda text: parse_label_config(text).trees[0].groups, xml) for _ in range(5))
    assert ours < 40 * plain  # about 8; something quadratic would be in the thousands


def nested(levels: int) -> str:
    return view(taxonomy('<Choice value="A">' * levels + "</Choice>" * levels))


def test_a_tree_may_have_many_levels_but_not_any_number() -> None:
    (tree,) = parse_label_config(nested(MAX_LEVELS)).trees
    assert tree.depth == MAX_LEVELS
    for levels in (MAX_LEVELS + 1, 1500, 20_000):
        with pytest.raises(ConfigError, match=rf"has {levels:,} levels of choices.*nested in the one before"):
            parse_label_config(nested(levels))


def test_a_manifest_with_many_levels_is_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"a path of 65 levels.*At most 64"):
        Tree.from_paths("taxonomy", [("A",) * 1500])


def _seconds(function: Callable[[str], object], text: str) -> float:
    start = time.perf_counter()
    function(text)
    return time.perf_counter() - start


def test_nested_choices_are_a_tree_whose_leaves_are_suggested() -> None:
    nested = '<Choice value="A"><View><Choice value="Long" alias="B"/></View></Choice><Choice value="C"/>'
    xml = view(f'<Choices name="c" toName="image" allowNested="true">{nested}</Choices>')
    (tree,) = parse_label_config(xml).trees
    assert tree.paths == (("A",), ("A", "B"), ("C",))
    assert (tree.kind, tree.nests_choices, tree.leafs_only, tree.multiple) == ("choices", True, True, False)
    assert Tree.from_json(tree.to_json()).nests_choices
