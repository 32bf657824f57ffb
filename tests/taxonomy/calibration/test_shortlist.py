"""Shortlists: what is listed by hand, and thresholds that keep the promise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from taxonomist.taxonomy.calibration import Calibration, Shortlist, fit_promise, fit_shortlists, shortlists
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath
from taxonomist.taxonomy.tree import Tree

NAMES = "abcdefgh"
FLAT = Tree.from_paths("kind", [(name,) for name in NAMES])  # lists have two of the eight
DEEP = Tree.from_paths("kind", [(name, part) for name in NAMES for part in "xy"])  # and four of the sixteen below


def probabilities(tree: Tree, values: Mapping[TaxonomyPath, float]) -> npt.NDArray[np.float64]:
    """Return P(path) of all nodes from that of some leaves."""
    row = np.zeros(len(tree))
    for path, value in values.items():
        for node in tree.ancestors(tree.index[path]):
            row[node] += value
    return row


def list_of(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> Shortlist | None:
    """Return what `shortlists` returns for one image."""
    return shortlists(tree, probabilities[None], calibration)[0]


def calibration(tree: Tree, *shortlists: float, path: float = math.inf, target: float = 0.9) -> Calibration:
    return Calibration(1.0, (path,) * tree.depth, target, (0,) * tree.depth, shortlists)


def test_the_likeliest_nodes_are_listed_where_their_sum_reaches_the_threshold() -> None:
    row = probabilities(FLAT, {("c",): 0.5, ("a",): 0.25, ("h",): 0.15, ("b",): 0.1})
    assert list_of(FLAT, row, calibration(FLAT, 0.75)) == Shortlist((("c",), ("a",)), 0.75, 1)
    assert list_of(FLAT, row, calibration(FLAT, 0.8)) is None
    assert list_of(FLAT, row, calibration(FLAT, math.inf)) is None
    assert list_of(FLAT, row, calibration(FLAT)) is None  # a version of an earlier release


def test_a_deeper_list_takes_the_place_of_one_above_it() -> None:
    below = (("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"))
    row = probabilities(DEEP, dict(zip((*below, ("c", "x")), (0.5, 0.25, 0.125, 0.0625, 0.03125), strict=True)))
    assert list_of(DEEP, row, calibration(DEEP, 0.8, 0.9)) == Shortlist(below, 0.9375, 2)
    assert list_of(DEEP, row, calibration(DEEP, 0.8, 0.95)) == Shortlist((("a",), ("b",)), 0.9375, 1)


@pytest.mark.parametrize(("nodes", "listed"), [(40, 5), (19, 4), (11, 2), (8, 2), (7, 0)])
def test_a_list_has_at_most_five_paths_and_a_quarter_of_the_nodes(nodes: int, listed: int) -> None:
    tree = Tree.from_paths("kind", [(f"{number:02}",) for number in range(nodes)])
    found = list_of(tree, np.full(nodes, 1 / nodes), calibration(tree, 0.01))
    assert len(found.paths if found else ()) == listed


def test_leaves_above_a_level_are_listed_with_it() -> None:
    tree = Tree.from_paths("kind", [("other",), *DEEP.paths])
    row = probabilities(tree, {("other",): 0.4, ("a", "x"): 0.3, ("b", "y"): 0.2, ("c", "x"): 0.1})
    found = list_of(tree, row, calibration(tree, math.inf, 0.5))
    assert found is not None
    assert found.paths == (("other",), ("a", "x"), ("b", "y"), ("c", "x"))


def test_a_control_that_wants_leaves_gets_leaves() -> None:
    tree = replace(DEEP, leafs_only=True)
    row = probabilities(tree, {("a", "x"): 0.6, ("b", "y"): 0.4})
    assert list_of(tree, row, calibration(tree, 0.5, math.inf)) is None
    found = list_of(tree, row, calibration(tree, math.inf, 0.5))
    assert found is not None
    assert found.paths == (("a", "x"), ("b", "y"))  # nothing was learned about the others


def test_no_answer_is_not_listed() -> None:
    tree = Tree("kind", "image", "taxonomy", (NO_ANSWER, *FLAT.paths))
    row = probabilities(tree, {NO_ANSWER: 0.4, ("a",): 0.3, ("b",): 0.2, ("c",): 0.1})
    assert list_of(tree, row, calibration(tree, 0.5)) == Shortlist((("a",), ("b",)), 0.5, 1)


def test_thresholds_of_another_tree_are_refused() -> None:
    with pytest.raises(ValueError, match="1 thresholds of shortlists for a tree of 2 levels"):
        list_of(DEEP, np.zeros(len(DEEP)), calibration(DEEP, 0.5))


def fitted(
    rows: Sequence[npt.NDArray[np.float64]],
    labels: Sequence[TaxonomyPath],
    products: Sequence[int] | None = None,
    *,
    tree: Tree = FLAT,
    path: float = math.inf,
    target: float = 0.9,
) -> tuple[float, ...]:
    truths = [[label] if label else [] for label in labels]
    numbers = list(products or range(len(labels)))
    return fit_shortlists(tree, np.array(rows), truths, numbers, calibration(tree, path=path, target=target)).shortlists


UNSURE = probabilities(FLAT, {("a",): 0.5, ("b",): 0.46, ("c",): 0.04})
SURE = probabilities(FLAT, {("a",): 0.96, ("c",): 0.04})


def test_right_lists_that_keep_a_promise_of_nine_in_ten() -> None:
    assert fitted([UNSURE] * 24, [("b",)] * 24) == (0.4,)
    assert fitted([UNSURE] * 23, [("b",)] * 23) == (math.inf,)
    assert fitted([UNSURE] * 40, [("b",)] * 30 + [("c",)] * 10) == (math.inf,)
    assert fitted([UNSURE] * 40, [("b",)] * 24 + [()] * 16) == (0.4,)  # 16 have no label


def test_paths_and_lists_keep_the_promise_together() -> None:
    labels: Sequence[TaxonomyPath] = [("a",)] * 20 + [("b",)] * 5
    assert fitted([SURE] * 20 + [UNSURE] * 5, labels, path=0.95) == (0.4,)
    assert fitted([UNSURE] * 5, labels[20:]) == (math.inf,)


def test_many_right_paths_make_no_list_right() -> None:
    labels: Sequence[TaxonomyPath] = [("a",)] * 100 + [("b",)] * 8 + [("c",)] * 2
    assert fitted([SURE] * 100 + [UNSURE] * 10, labels, path=0.95) == (math.inf,)
    assert fitted([SURE] * 100 + [UNSURE] * 10, labels, path=0.95, target=0.8) == (0.4,)


def test_images_of_one_product_count_as_far_as_they_are_independent() -> None:
    assert fitted([UNSURE] * 90, [("b",)] * 90, [number // 10 for number in range(90)]) == (math.inf,)
    assert fitted([UNSURE] * 90, [("b",)] * 90, [number // 3 for number in range(90)]) == (0.4,)


def test_each_level_has_a_threshold_of_its_own() -> None:
    """All lists of level 1 are right. Those of level 2 are wrong where their sum is .64."""
    clear: dict[TaxonomyPath, float] = {
        ("a", "x"): 0.3,
        ("a", "y"): 0.2,
        ("b", "x"): 0.18,
        ("b", "y"): 0.17,
        ("c", "x"): 0.15,
    }
    vague: dict[TaxonomyPath, float] = {
        ("a", "x"): 0.2,
        ("b", "x"): 0.19,
        ("c", "x"): 0.15,
        ("d", "x"): 0.1,
        ("a", "y"): 0.09,
        ("b", "y"): 0.09,
    }
    rows = [probabilities(DEEP, clear)] * 40 + [probabilities(DEEP, vague)] * 10
    labels: Sequence[TaxonomyPath] = [("a", "x")] * 40 + [("a", "y")] * 10
    assert fitted(rows, labels, tree=DEEP) == (0.4, 0.65)


def test_right_lists_of_one_level_make_none_of_another_right() -> None:
    """A sum of .93 at level 2 is wrong in 3 of 13 images; 87 images have lists of level 1 only, all of them right."""
    below: dict[TaxonomyPath, float] = {
        ("a", "x"): 0.3,
        ("b", "x"): 0.25,
        ("c", "x"): 0.2,
        ("d", "x"): 0.18,
        ("e", "x"): 0.07,
    }
    top, others = [(name, part) for name in "ab" for part in "xy"], [(name, "x") for name in "cdefgh"]
    above: dict[TaxonomyPath, float] = dict.fromkeys(top, 0.12)
    above.update((path, 0.08) for path in others)
    rows = [probabilities(DEEP, below)] * 13 + [probabilities(DEEP, above)] * 87
    labels: Sequence[TaxonomyPath] = [("a", "x")] * 10 + [("h", "x")] * 3 + [("b", "y")] * 87
    assert fitted(rows, labels, tree=DEEP) == (0.4, math.inf)


def test_a_deeper_list_that_leaves_too_many_wrong_ones_above_it_is_not_shown() -> None:
    """36 of 40 lists of level 2 are right, and 17 of 20 that stay at level 1: fewer than nine in ten together."""
    tree = Tree.from_paths("kind", [(name, part) for name in NAMES for part in "xyz"])
    below: dict[TaxonomyPath, float] = {
        ("a", "x"): 0.3,
        ("a", "y"): 0.22,
        ("b", "x"): 0.2,
        ("b", "y"): 0.18,
        ("c", "x"): 0.06,
        ("d", "x"): 0.04,
    }
    top, others = [(name, part) for name in "ab" for part in "xy"], [(name, "x") for name in "cdef"]
    above: dict[TaxonomyPath, float] = dict.fromkeys(top, 0.2)
    above.update((path, 0.05) for path in others)
    sure: dict[TaxonomyPath, float] = {("a", "x"): 0.97, ("b", "x"): 0.03}
    rows = [probabilities(tree, values) for values in [sure] * 200 + [below] * 40 + [above] * 20]
    labels: Sequence[TaxonomyPath] = [("a", "x")] * 236 + [("a", "z")] * 4 + [("a", "y")] * 17 + [("h", "x")] * 3
    assert fitted(rows[:240], labels[:240], tree=tree, path=0.97) == (0.4, 0.4)
    assert fitted(rows, labels, tree=tree, path=0.97) == (0.4, math.inf)


def test_what_a_label_leaves_open_is_not_judged() -> None:
    row = probabilities(DEEP, {("a", "x"): 0.4, ("b", "x"): 0.3, ("c", "x"): 0.2, ("d", "x"): 0.1})
    labels: Sequence[TaxonomyPath] = [("b", "x")] * 24 + [("a",)] * 20
    assert fitted([row] * 44, labels, tree=DEEP)[1] == 0.4
    assert fitted([row] * 44, [*labels[1:], ("a",)], tree=DEEP)[1] == math.inf
    assert fitted([row] * 44, [*labels[:24], *[("h",)] * 20], tree=DEEP)[1] == math.inf


def test_the_promise_holds_for_products_that_are_right_or_wrong_as_a_whole() -> None:
    """With confidence .8, at most a fifth of the trials may have lists that are right in less than the target."""
    random = np.random.default_rng(0)
    broken = given = 0
    for _ in range(100):
        chance = random.uniform(0.5, 1, 120)  # of each product
        mass = 0.4 + 0.59 * chance
        products = np.repeat(np.arange(120), random.integers(1, 7, 120))
        right = (random.random(120) < chance)[products]
        rows = np.zeros((len(products), len(FLAT)))
        rows[:, :2] = mass[products, None] / 2
        labels: Sequence[TaxonomyPath] = [("b",) if is_right else ("c",) for is_right in right]
        (found,) = fitted(list(rows), labels, products.tolist(), target=0.8)
        if math.isinf(found):
            continue
        given += 1
        broken += chance[mass >= found].mean() < 0.8
    assert given > 50
    assert broken <= 0.2 * given


def test_a_promised_path_takes_the_image_from_the_lists() -> None:
    truths = [[("a",)]] * 30 + [[("b",)]] * 30
    rows, products = np.array([SURE] * 30 + [UNSURE] * 30), list(range(60))
    promised = fit_promise(FLAT, rows, truths, products)
    assert promised.thresholds == (0.55,)
    assert fit_shortlists(FLAT, rows, truths, products, promised) == replace(promised, shortlists=(0.4,))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_node_that_is_not_listed_makes_no_list_right(name: str) -> None:
    sure = probabilities(FLAT, {("a",): 1.0})  # a list of one, since the others have no probability
    assert fitted([sure] * 40, [(name,)] * 40) == (math.inf,)


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_label_above_a_node_that_is_not_listed_makes_the_list_wrong(name: str) -> None:
    sure = probabilities(DEEP, {("a", "x"): 1.0})
    labels: list[TaxonomyPath] = [("a", "x")] * 40 + [(name,)] * 40
    assert fitted([sure] * 80, labels, tree=DEEP) == (math.inf, math.inf)
