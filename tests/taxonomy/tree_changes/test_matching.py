"""Nodes of a taxonomy that changed, matched to the new one: what is certain, what is proposed, and what is neither."""

from __future__ import annotations

import random

import pytest

from taxonomist.taxonomy.label_config import parse_label_config, write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_changes import NodeMatch, Reason, match_configs, match_trees

SEATS = ("Seating / Stool", "Seating / Sofa", "Tables / Desk", "Tables / Coffee table")
COLOURS = tuple(f"{kind} / {colour}" for kind in ("Chair", "Lamp", "Table") for colour in ("red", "blue"))


def tree(*paths: str) -> Tree:
    return Tree.from_paths("kind", [tuple(path.split(" / ")) for path in paths])


def changed(paths: tuple[str, ...], *changes: tuple[str, str | None], new: tuple[str, ...] = ()) -> list[str]:
    """Return the paths after texts in them are replaced, or the paths that hold them removed, and others added."""
    for old, text in changes:
        paths = tuple(path.replace(old, text or "") for path in paths if text is not None or old not in path)
    return [*paths, *new]


def shown(old: Tree, new: Tree) -> dict[str, tuple[str, Reason]]:
    matches = match_trees(old, new)
    assert len({match.old for match in matches}) == len(matches)
    return {" / ".join(match.old): (" / ".join(match.new), match.reason) for match in matches}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (changed(SEATS, ("Sofa", "SOFA")), {"Seating / Sofa": ("Seating / SOFA", Reason.SPELLING)}),
        (
            changed(SEATS, ("Coffee table", "Coffee-Table")),
            {"Tables / Coffee table": ("Tables / Coffee-Table", Reason.SPELLING)},
        ),
        (changed(SEATS, ("Seating / Sofa", "Tables / Sofa")), {"Seating / Sofa": ("Tables / Sofa", Reason.MOVED)}),
        (changed(SEATS, ("Seating / Sofa", "Sofa")), {"Seating / Sofa": ("Sofa", Reason.MOVED)}),
        (
            changed(SEATS, ("Seating / Sofa", "Living room / Sofa")),  # into a group that is new
            {"Seating / Sofa": ("Living room / Sofa", Reason.MOVED)},
        ),
        (changed(SEATS, ("Seating", "Seats")), {"Seating": ("Seats", Reason.CHILDREN)}),
        (
            changed(SEATS, ("Seating", "Seats"), ("Tables", "Tops")),
            {"Seating": ("Seats", Reason.CHILDREN), "Tables": ("Tops", Reason.CHILDREN)},
        ),
        (
            changed(SEATS, ("Seating /", "Indoor / Seating /")),  # with its nodes; they have no match of their own
            {"Seating": ("Indoor / Seating", Reason.MOVED)},
        ),
        (
            changed(SEATS, ("Seating", "seating"), ("Sofa", "Sofa bed"), ("Stool", "stool")),
            {
                "Seating": ("seating", Reason.SPELLING),
                "Seating / Stool": ("seating / stool", Reason.SPELLING),
                "Seating / Sofa": ("seating / Sofa bed", Reason.ONLY_ONE),
            },
        ),
    ],
    ids=lambda value: "",
)
def test_what_cannot_be_confused_is_certain(after: list[str], expected: dict[str, tuple[str, Reason]]) -> None:
    assert shown(tree(*SEATS), tree(*after)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # a leaf with another name, however likely
        (SEATS, changed(SEATS, ("Stool", "Stools")), {"Seating / Stool": ("Seating / Stools", Reason.ONLY_ONE)}),
        # one node below a group says too little of the group, and the group too little of the node
        (
            ("Chair / Armrest", "Table"),
            ("Lamp / Armrest", "Table"),
            {"Chair": ("Lamp", Reason.ONLY_ONE), "Chair / Armrest": ("Lamp / Armrest", Reason.ELSEWHERE)},
        ),
        # other nodes have the same nodes below them
        (COLOURS, changed(COLOURS, ("Chair", "Seat")), {"Chair": ("Seat", Reason.ONLY_ONE)}),
        # others had the same nodes below them
        (
            COLOURS,
            ("Seat / red", "Seat / blue", "Lamp / red", "Table / red"),
            {"Chair": ("Seat", Reason.ONLY_ONE)},
        ),
        # two new nodes have the same nodes below them
        (
            ("Chair / red", "Chair / blue", "Bed"),
            ("Seat / red", "Seat / blue", "Stool / red", "Stool / blue", "Bed"),
            {"Chair": ("Seat", Reason.SIMILAR)},
        ),
        # the same nodes below a new node in another place
        (
            ("Home / Chair / red", "Home / Chair / blue", "Home / Bed", "Garden / Tree"),
            ("Garden / Seat / red", "Garden / Seat / blue", "Home / Bed", "Garden / Tree"),
            {
                "Home / Chair / red": ("Garden / Seat / red", Reason.ELSEWHERE),
                "Home / Chair / blue": ("Garden / Seat / blue", Reason.ELSEWHERE),
            },
        ),
        # one has the name of the new node, another one has its nodes
        (
            ("Seating / Sofa", "Seating / Couch / red", "Seating / Couch / blue", "Seating / Bed"),
            ("Seating / SOFA / red", "Seating / SOFA / blue", "Seating / Bed"),
            {
                "Seating / Couch": ("Seating / SOFA", Reason.SIMILAR),
                "Seating / Couch / red": ("Seating / SOFA / red", Reason.ELSEWHERE),
                "Seating / Couch / blue": ("Seating / SOFA / blue", Reason.ELSEWHERE),
            },
        ),
        # two new nodes have the same name, written differently
        (
            ("Seating / Sofa", "Seating / Bed"),
            ("Seating / SOFA", "Seating / sofa", "Seating / Bed"),
            {"Seating / Sofa": ("Seating / SOFA", Reason.SIMILAR)},
        ),
        # two new nodes in other places have the same name
        (SEATS, changed(SEATS, ("Sofa", None), new=("Hall / Sofa", "Home / Sofa")), {}),
        # others have the same name
        (COLOURS, changed(COLOURS, ("Chair / red", None), new=("Bed / red",)), {}),
        # the rest of one node is not the rest of another one
        (
            (*SEATS, "Seating / Other"),
            (*SEATS, "Tables / Other"),
            {},
        ),
        # sizes
        ((*SEATS, "Seating / 2 m"), (*SEATS, "Tables / 2 m"), {}),
        # a leaf that became a group of the same name elsewhere
        (SEATS, changed(SEATS, ("Seating / Sofa", "Sofa / Corner")), {}),
        # two became one: which labels are meant is not known later
        (
            ("Seating / Sofa", "Seating / sofa", "Seating / Bed"),
            ("Seating / SOFA", "Seating / Bed"),
            {"Seating / Sofa": ("Seating / SOFA", Reason.SIMILAR)},
        ),
        # merged into nodes that were there before
        (
            (*SEATS, "Seating / Sofas", "Seating / sofa", "Seating / Bed"),
            SEATS,
            {
                "Seating / Sofas": ("Seating / Sofa", Reason.MERGED),
                "Seating / sofa": ("Seating / Sofa", Reason.MERGED),
            },
        ),
        # signs are parts of names
        (("A / C++", "A / D"), ("A / C", "A / D"), {"A / C++": ("A / C", Reason.ONLY_ONE)}),
        # several went and came: the most similar pairs, each node once
        (
            ("Bed / King size", "Bed / Queen size", "Bed / Twin"),
            ("Bed / King sized", "Bed / Queen sized", "Bed / Futon"),
            {
                "Bed / King size": ("Bed / King sized", Reason.SIMILAR),
                "Bed / Queen size": ("Bed / Queen sized", Reason.SIMILAR),
            },
        ),
        # removed
        (SEATS, changed(SEATS, ("Stool", None)), {}),
        # added
        (SEATS, changed(SEATS, new=("Seating / Bench",)), {}),
    ],
)
def test_everything_else_is_asked_for(
    before: tuple[str, ...], after: tuple[str, ...], expected: dict[str, tuple[str, Reason]]
) -> None:
    found = shown(tree(*before), tree(*after))
    assert found == expected
    assert not any(reason.certain for _, reason in found.values())


def test_the_name_of_two_old_nodes_is_not_certain_though_one_of_them_has_another_match() -> None:
    """The one with nodes below it became *Couch*; the name that came may be of either."""
    old = tree("Seating / Sofa / red", "Seating / Sofa / blue", "Seating / sofa", "Seating / Bed")
    new = tree("Seating / Couch / red", "Seating / Couch / blue", "Seating / SOFA", "Seating / Bed")
    assert shown(old, new) == {
        "Seating / Sofa": ("Seating / Couch", Reason.CHILDREN),
        "Seating / sofa": ("Seating / SOFA", Reason.ONLY_ONE),
    }
    old = tree("Seating / Sofa / red", "Seating / Sofa / blue", "Home / Sofa", "Home / Bed")
    new = tree("Seating / Couch / red", "Seating / Couch / blue", "Hall / Sofa", "Home / Bed")
    assert shown(old, new) == {"Seating / Sofa": ("Seating / Couch", Reason.CHILDREN)}


def test_two_that_swap_their_names_are_not_seen() -> None:
    """Nothing is gone then: a taxonomy has no ids, and the labels count as the names that they have."""
    assert match_trees(tree(*SEATS), tree(*changed(SEATS, ("Stool", "x"), ("Sofa", "Stool"), ("x", "Sofa")))) == ()


CHOICES = '<View><Image name="image" value="$image"/><Taxonomy name="kind" toName="image">{}</Taxonomy></View>'


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # the alias is another one, the text is the same
        ('alias="s1" value="Sofa"', 'alias="s2" value="Sofa"', {("s1",): (("s2",), Reason.SPELLING)}),
        # the text is another one, the alias stays: labels from before the alias name the text
        ('alias="s1" value="Sofa"', 'alias="s1" value="Couch"', {("Sofa",): (("s1",), Reason.SAME_CHOICE)}),
        # the text is that of a node in another place, which is gone: the choice has labels of its own
        (
            'value="Room"><Choice value="Sofa"/></Choice><Choice alias="s1" value="Couch"',
            'value="Room"><Choice value="Desk"/></Choice><Choice alias="s1" value="Sofa"',
            {("Room", "Sofa"): (("Room", "Desk"), Reason.ONLY_ONE), ("Couch",): (("s1",), Reason.SAME_CHOICE)},
        ),
        # an alias comes
        ('value="Sofa"', 'alias="s1" value="Sofa"', {}),
        # the alias goes: labels name it
        ('alias="s1" value="Sofa"', 'value="Sofa"', {("s1",): (("Sofa",), Reason.SPELLING)}),
    ],
)
def test_choices_with_aliases(
    before: str, after: str, expected: dict[TaxonomyPath, tuple[TaxonomyPath, Reason]]
) -> None:
    old, new = (
        parse_label_config(CHOICES.format(f'<Choice {text}/><Choice value="Bed"/>')) for text in (before, after)
    )
    assert {match.old: (match.new, match.reason) for match in match_configs(old, new)} == expected


def test_a_control_with_the_same_nodes_is_certain() -> None:
    paths = [tuple(path.split(" / ")) for path in SEATS]
    old, new = (parse_label_config(write_label_config(paths, control=name)) for name in ("kind", "category"))
    assert match_configs(old, new) == (NodeMatch("kind", (), (), Reason.CONTROL, "category"),)
    other = parse_label_config(write_label_config(paths[1:], control="category"))
    assert match_configs(old, other) == ()


def test_a_config_that_did_not_change_has_no_matches() -> None:
    config = parse_label_config(write_label_config([tuple(path.split(" / ")) for path in SEATS]))
    assert match_configs(config, config) == ()


def test_certain_matches_are_one_to_one_and_lead_from_gone_to_new_nodes() -> None:
    """Whatever changes: 500 random changes of a tree."""
    random.seed(11)
    words = ["Red", "red", "RED", "Blue", "Other", "A-1", "A 1", "Oak", "oak wood", "Oak-wood", "Ash"]

    def some() -> Tree:
        paths = {tuple(random.choices(words, k=random.randint(1, 3))) for _ in range(random.randint(1, 12))}
        return Tree.from_paths("kind", paths)

    seen: set[Reason] = set()
    for _ in range(500):
        old, new = some(), some()
        matches = match_trees(old, new)
        certain = [match for match in matches if match.certain]
        seen |= {match.reason for match in matches}
        reached = {new.node_of(path) for path in old.paths}
        assert len({match.new for match in certain}) == len(certain)
        assert all(match.new in new and match.new not in reached for match in certain)
        assert all(match.old in old and new.node_of(match.old) is None for match in matches)
        assert match_trees(old, new) == matches
    assert seen >= {Reason.SPELLING, Reason.MOVED, Reason.ONLY_ONE, Reason.SIMILAR}


def test_a_large_taxonomy_is_matched_without_comparing_every_pair() -> None:
    """3,000 siblings with other names: no proposal, and none of nine million pairs is compared."""
    old, new = (Tree.from_paths("kind", [(f"{kind} {number}",) for number in range(3_000)]) for kind in "ab")
    assert match_trees(old, new) == ()
