"""Look-alikes propose nodes that the model has not learned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_changes.new_nodes import propose_new_node

LEARNED = Tree.from_paths("kind", [("A", "old"), ("A", "other"), ("B",)])
NOW = Tree.from_paths("kind", [*LEARNED.paths, ("A", "new"), ("A", "new", "x"), ("A", "new", "y")])
NEW, OLD = ("A", "new"), ("A", "old")


@pytest.mark.parametrize(
    ("nearest", "expected"),
    [
        ([NEW, NEW, NEW], NEW),
        ([OLD, NEW, ("B",), NEW, NEW], NEW),
        ([NEW, NEW], None),  # two labels are too few
        ([NEW, NEW, OLD, OLD, OLD, NEW], None),  # the third one is too far
        ([OLD, OLD, OLD, NEW, NEW], None),  # the model has learned it
        ([(*NEW, "x"), (*NEW, "x"), (*NEW, "x")], (*NEW, "x")),
        ([(*NEW, "x"), (*NEW, "x"), (*NEW, "y")], NEW),  # as deep as they agree
        ([], None),
    ],
)
def test_three_of_the_five_nearest_propose_a_new_node(
    nearest: list[TaxonomyPath], expected: TaxonomyPath | None
) -> None:
    assert propose_new_node(NOW, LEARNED, [[path] for path in nearest]) == expected


def test_a_node_with_another_name_is_not_new() -> None:
    renamed = replace(NOW, paths=tuple(path for path in NOW.paths if path != OLD), renamed=((OLD, NEW),))
    assert propose_new_node(renamed, LEARNED, [[NEW]] * 3) is None
    assert propose_new_node(renamed, LEARNED, [[(*NEW, "x")]] * 3) == (*NEW, "x")


def test_a_control_of_leaves_gets_a_leaf_or_none() -> None:
    leaves = replace(NOW, leafs_only=True)
    assert propose_new_node(leaves, LEARNED, [[(*NEW, "x")]] * 2 + [[(*NEW, "y")]]) is None
    assert propose_new_node(leaves, LEARNED, [[(*NEW, "x")]] * 3) == (*NEW, "x")


def test_an_image_with_two_labels_has_one_vote_for_each_node() -> None:
    assert propose_new_node(NOW, LEARNED, [[(*NEW, "x"), (*NEW, "y")], [NEW]]) is None
