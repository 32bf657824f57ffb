"""Nodes that are gone, and the renames that a person decided."""

from datetime import UTC, datetime

import pytest

from taxonomist.taxonomy.annotations import parse_annotation
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config, write_label_config
from taxonomist.taxonomy.label_config.former_nodes import (
    LabelDecision,
    gone_nodes,
    read_label_config,
    with_those_above,
)
from taxonomist.taxonomy.paths import TaxonomyPath

NOW = datetime(2026, 11, 27, tzinfo=UTC)
OLD = write_label_config([("A", "B", "C"), ("A", "B", "D"), ("A", "E")])
NEW = write_label_config([("A", "F", "C"), ("A", "E"), ("G", "H")])


def renamed(old: TaxonomyPath, new: TaxonomyPath, control: str = "taxonomy") -> LabelDecision:
    return LabelDecision(control, old, new, NOW)


def config(xml: str, *decisions: LabelDecision) -> LabelConfig:
    return read_label_config(xml, decisions)


def test_a_decision_on_a_node_is_found_from_below_the_nearest_one_first() -> None:
    above = [("kind", ("A", "B")), ("kind", ("A",)), ("kind", ())]
    assert list(with_those_above("kind", ("A", "B"))) == above
    assert renamed(("A",), ("B",), "kind").node in above


@pytest.mark.parametrize(
    ("path", "node", "prefix"),
    [
        (("A", "B"), ("A", "F"), ("A", "F")),
        (("A", "B", "C"), ("A", "F", "C"), ("A", "F", "C")),
        (("A", "B", "D"), None, ("A", "F")),  # the subtree moves, and this node is not in its new place
        (("A", "E"), ("A", "E"), ("A", "E")),
        (("X",), None, ()),
    ],
)
def test_a_rename_takes_the_nodes_below_along(
    path: TaxonomyPath, node: TaxonomyPath | None, prefix: TaxonomyPath
) -> None:
    tree = config(NEW, renamed(("A", "B"), ("A", "F"))).trees[0]
    assert tree.node_of(path) == node
    assert tree.known_prefix(path) == prefix


def test_the_longest_rename_counts() -> None:
    tree = config(NEW, renamed(("A", "B"), ("A", "F")), renamed(("A", "B", "C"), ("G", "H"))).trees[0]
    assert tree.node_of(("A", "B", "C")) == ("G", "H")
    assert tree.node_of(("A", "B")) == ("A", "F")


def test_renames_follow_each_other_and_may_go_in_a_circle() -> None:
    tree = config(NEW, renamed(("first",), ("second",)), renamed(("second",), ("A", "E"))).trees[0]
    assert tree.node_of(("first",)) == ("A", "E")
    circle = config(NEW, renamed(("first",), ("second",)), renamed(("second",), ("first",))).trees[0]
    assert circle.node_of(("first",)) is None


def test_a_node_that_came_back_is_its_own() -> None:
    tree = config(OLD, renamed(("A", "B"), ("A", "E"))).trees[0]
    assert tree.node_of(("A", "B", "C")) == ("A", "B", "C")
    assert tree.node_of(("A", "B", "new")) is None
    assert tree.known_prefix(("A", "B", "new")) == ("A", "B")


def test_gone_nodes_stay_gone_until_they_come_back() -> None:
    old, new = parse_label_config(OLD), parse_label_config(NEW)
    gone = gone_nodes(old, new, {})
    assert gone == {"taxonomy": (("A", "B"), ("A", "B", "C"), ("A", "B", "D"))}
    assert gone_nodes(new, new, gone) == gone
    assert gone_nodes(new, old, gone) == {"taxonomy": (("A", "F"), ("A", "F", "C"), ("G",), ("G", "H"))}


def test_a_choice_with_an_alias_is_gone_in_both_spellings() -> None:
    with_alias = OLD.replace('value="E"', 'value="E" alias="e"')
    gone = gone_nodes(parse_label_config(with_alias), parse_label_config(write_label_config([("A", "F")])), {})
    assert {("A", "E"), ("A", "e")} <= set(gone["taxonomy"])
    assert gone_nodes(parse_label_config(OLD), parse_label_config(with_alias), {}) == {}  # an alias renames nothing


def test_a_control_that_is_gone_is_read_all_the_same() -> None:
    region = {"from_name": "taxonomy", "type": "taxonomy", "value": {"taxonomy": [["A", "E"], ["A", "X"]]}}
    data = {"id": 1, "task": 1, "result": [region]}
    other = NEW.replace('name="taxonomy"', 'name="kind"')
    assert gone_nodes(parse_label_config(NEW), parse_label_config(other), {}).keys() == {"taxonomy"}
    gone = parse_annotation(data, read_label_config(other, (), frozenset({"taxonomy"})))
    assert gone.labels == {}
    assert [(unknown.control, unknown.path, unknown.known) for unknown in gone.unknown] == [
        ("taxonomy", ("A", "E"), ()),
        ("taxonomy", ("A", "X"), ()),
    ]
    moved = LabelDecision("taxonomy", (), (), NOW, "kind")
    read = parse_annotation(data, read_label_config(other, (moved,), frozenset({"taxonomy"})))
    assert read.labels == {"kind": (("A", "E"),)}
    assert [(unknown.control, unknown.path, unknown.known) for unknown in read.unknown] == [
        ("kind", ("A", "X"), ("A",))
    ]


def test_a_control_that_is_renamed_twice_is_the_last_one() -> None:
    moved = tuple(LabelDecision(old, (), (), NOW, new) for old, new in (("a", "b"), ("b", "taxonomy"), ("c", "gone")))
    read = read_label_config(NEW, moved, frozenset("abc"))
    assert read.former_controls == {"a": "taxonomy", "b": "taxonomy", "c": None}
    assert read.trees[0].former == ("a", "b")
    circle = tuple(LabelDecision(old, (), (), NOW, new) for old, new in (("a", "b"), ("b", "a")))
    assert read_label_config(NEW, circle, frozenset("ab")).former_controls == {"a": None, "b": None}


def test_choices_are_renamed_too() -> None:
    xml = (
        '<View><Image name="image" value="$image"/><Choices name="state" toName="image">'
        '<Choice value="worn"/><Choice value="new"/></Choices></View>'
    )
    region = {"from_name": "state", "type": "choices", "value": {"choices": ["used"]}}
    read = parse_annotation(
        {"id": 1, "task": 1, "result": [region]}, config(xml, renamed(("used",), ("worn",), "state"))
    )
    assert read.labels == {"state": (("worn",),)}


def test_a_config_without_decisions_is_the_same_object() -> None:
    assert read_label_config(OLD) is parse_label_config(OLD)
    assert read_label_config(OLD, (), frozenset({"taxonomy"})) is parse_label_config(OLD)
