"""Which labels are doubtful, and why: worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.taxonomy.agreement.doubtful_labels import doubtful_labels, pure_groups
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

SINK: TaxonomyPath = ("Bath", "Sink")
TUB: TaxonomyPath = ("Bath", "Tub")
SOFA: TaxonomyPath = ("Living", "Sofa")
TREE = Tree.from_paths("room", [SINK, TUB, SOFA])


def probabilities(*rows: dict[TaxonomyPath, float]) -> FloatArray:
    """Return (n, nodes) of the leaves' probabilities; a node above has their sum."""
    result = np.zeros((len(rows), len(TREE)), np.float32)
    for row, leaves in enumerate(rows):
        for path, probability in leaves.items():
            result[row, TREE.index[path]] += probability
            result[row, TREE.index[path[:1]]] += probability
    return result


EVEN = {SINK: 1 / 3, TUB: 1 / 3, SOFA: 1 / 3}


def agreeing(groups: int) -> tuple[list[list[TaxonomyPath]], list[str]]:
    """Return the labels and the products of pairs that agree."""
    return [[SINK]] * 2 * groups, [f"pair {number // 2}" for number in range(2 * groups)]


def test_the_view_that_most_others_contradict() -> None:
    labels: list[list[TaxonomyPath]] = [[SINK], [TUB], [SINK], [SINK]]
    pairs, products = agreeing(4)
    rows = probabilities(*[EVEN] * (len(labels) + len(pairs)))
    found = doubtful_labels(TREE, labels + pairs, rows, ["a"] * 4 + products, [None] * len(rows))
    assert [(doubt.row, doubt.reason, doubt.contradicting, doubt.other, doubt.votes) for doubt in found] == [
        (1, "views", (SINK,), 0, (3, 1))
    ]


def test_of_two_views_the_less_probable_label_is_doubtful() -> None:
    pairs, products = agreeing(4)
    rows = probabilities({SINK: 0.2, TUB: 0.7, SOFA: 0.1}, {SINK: 0.3, TUB: 0.6, SOFA: 0.1}, *[EVEN] * len(pairs))
    (first, *_) = doubtful_labels(TREE, [[SINK], [TUB], *pairs], rows, ["a", "a", *products], [None] * len(rows))
    assert (first.row, first.contradicting, first.other, first.votes) == (0, (TUB,), 1, (1, 1))
    assert (first.probability, first.contradicting_probability) == pytest.approx((0.25, 0.65))


def test_a_label_that_stops_earlier_and_one_of_several_paths_agree() -> None:
    labels: list[list[TaxonomyPath]] = [[SINK], [("Bath",)], [SOFA, SINK]]
    rows = probabilities(EVEN, EVEN, EVEN)
    assert doubtful_labels(TREE, labels, rows, ["a"] * 3, [None] * 3) == []


def test_the_most_votes_come_first() -> None:
    labels: list[list[TaxonomyPath]] = [[TUB], [SINK], [SINK]] + [[TUB]] + [[SINK]] * 4
    pairs, products = agreeing(9)
    rows = probabilities(*[EVEN] * (len(labels) + len(pairs)))
    found = doubtful_labels(TREE, labels + pairs, rows, ["a"] * 3 + ["b"] * 5 + products, [None] * len(rows))
    assert [(doubt.row, doubt.votes) for doubt in found] == [(3, (4, 1)), (0, (2, 1))]


def test_mixed_groups_say_nothing() -> None:
    labels: list[list[TaxonomyPath]] = [[SINK], [SOFA]] * 4
    groups = [f"report {number // 2}" for number in range(8)]
    rows = probabilities(*[EVEN] * 8)
    assert doubtful_labels(TREE, labels, rows, groups, [None] * 8) == []
    assert pure_groups(TREE, labels, groups) == [None] * 8
    assert doubtful_labels(TREE, labels[:2], rows[:2], groups[:2], [None] * 2) != []  # two images say too little


def test_groups_count_as_deep_as_they_are_pure() -> None:
    """All pairs but one agree at level 1, and none at level 2."""
    labels: list[list[TaxonomyPath]] = [[SINK], [TUB]] * 4 + [[SINK], [SOFA]]
    groups = [f"report {number // 2}" for number in range(10)]
    rows = probabilities(*[{SINK: 0.4, TUB: 0.4, SOFA: 0.2}] * 10)
    (first, *rest) = doubtful_labels(TREE, labels, rows, groups, [None] * 10)
    assert (first.row, first.reason, first.contradicting) == (9, "views", (SINK,))
    assert rest == []
    assert pure_groups(TREE, labels, groups) == groups


def test_near_duplicates_come_after_views() -> None:
    pairs, products = agreeing(4)
    labels: list[list[TaxonomyPath]] = [[SINK], [TUB], [SINK], [TUB], *pairs]
    rows = probabilities(*[{SINK: 0.5, TUB: 0.4, SOFA: 0.1}] * len(labels))
    near = [None, None, "c", "c", *products]
    found = doubtful_labels(TREE, labels, rows, ["a", "a", None, None, *products], near)
    assert [(doubt.row, doubt.reason, doubt.other) for doubt in found] == [(1, "views", 0), (3, "near-duplicates", 2)]


def test_the_least_probable_labels_come_first_and_likely_ones_not_at_all() -> None:
    rows = probabilities(
        {SINK: 0.3, TUB: 0.6, SOFA: 0.1}, {SINK: 0.05, TUB: 0.05, SOFA: 0.9}, {SINK: 0.8, TUB: 0.1, SOFA: 0.1}
    )
    found = doubtful_labels(TREE, [[SINK]] * 3, rows, [None] * 3, [None] * 3)
    assert [(doubt.row, doubt.reason, doubt.contradicting, doubt.other) for doubt in found] == [
        (1, "probability", (SOFA,), None),
        (0, "probability", (TUB,), None),
    ]
    assert (found[0].probability, found[0].contradicting_probability) == pytest.approx((0.05, 0.9))


def test_a_label_that_the_model_does_not_know_is_judged_by_its_parent() -> None:
    rows = probabilities({TUB: 0.9, SOFA: 0.1}, {TUB: 0.2, SOFA: 0.8}, {})
    found = doubtful_labels(TREE, [[SINK]] * 3, rows, [None] * 3, [None] * 3)
    assert [(doubt.row, doubt.contradicting) for doubt in found] == [(1, (("Living",),))]


def test_rows_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="1 labels, 2 rows"):
        doubtful_labels(TREE, [[SINK]], probabilities(EVEN, EVEN), [None], [None])
