"""The threshold of a whole tree: values by hand, and the promise in simulations with products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from taxonomist.taxonomy.calibration import fit_promise
from taxonomist.taxonomy.calibration.promise import effective_number
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath
from taxonomist.taxonomy.tree import Tree

FLAT = Tree.from_paths("kind", [("a",), ("b",)])
DEEP = Tree.from_paths("kind", [("a", "x"), ("a", "y"), ("b",)])


def flat(confidences: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return P(path) of images whose likeliest node is "a"."""
    return np.array([[value, 1 - value] for value in confidences])


def threshold(
    probabilities: npt.NDArray[np.float64],
    labels: Sequence[TaxonomyPath],
    products: Sequence[int] | None = None,
    *,
    tree: Tree = FLAT,
    target: float = 0.9,
) -> float:
    truths = [[label] if label else [] for label in labels]
    numbers = products or range(len(labels))
    found = fit_promise(tree, probabilities, truths, list(numbers), target_precision=target)
    assert len(set(found.thresholds)) == 1
    assert found.temperature == 1
    return found.thresholds[0]


def test_right_suggestions_that_keep_a_promise_of_nine_in_ten() -> None:
    """With the confidence .8 half of the risk is .1, and .9 to the power of 22 is below it."""
    assert threshold(flat([0.96] * 22), [("a",)] * 22) == 0.4
    assert math.isinf(threshold(flat([0.96] * 21), [("a",)] * 21))


def test_the_first_threshold_that_fails_ends_the_trial() -> None:
    # At .95 all are right, at .80 half are wrong, at .60 many more are right: these are never tried.
    confidences = [0.97] * 22 + [0.82] * 16 + [0.65] * 400
    labels = [("a",)] * 22 + [("a",), ("b",)] * 8 + [("a",)] * 400
    assert threshold(flat(confidences), labels) == 0.85


def test_too_few_suggestions_at_the_strictest_thresholds_are_skipped() -> None:
    assert threshold(flat([0.97, *[0.72] * 20]), [("b",), *[("a",)] * 20], target=0.8) == 0.4


def test_images_of_one_product_count_as_far_as_they_are_independent() -> None:
    labels = [("a",)] * 90
    assert math.isinf(threshold(flat([0.96] * 90), labels, [number // 10 for number in range(90)]))
    assert threshold(flat([0.96] * 90), labels, [number // 3 for number in range(90)]) == 0.4


def test_effective_numbers_by_hand() -> None:
    assert effective_number(np.array([0, 0, 1, 1])) == 2
    assert effective_number(np.array([0, 0, 0, 1])) == pytest.approx(16 / 10)
    assert effective_number(np.array([], np.int64)) == 0


def test_the_deepest_node_counts_whatever_its_level() -> None:
    # nodes: a, a/x, a/y, b
    sure_of_all = [[0.98, 0.97, 0.01, 0.02]] * 20
    sure_of_the_top = [[0.98, 0.5, 0.48, 0.02]] * 20
    probabilities = np.array(sure_of_all + sure_of_the_top)
    assert DEEP.paths == (("a",), ("a", "x"), ("a", "y"), ("b",))
    wrong_below = [("a", "x")] * 20 + [("a", "y")] * 20
    assert threshold(probabilities, wrong_below, tree=DEEP) == 0.55  # at .50 the lower level would be suggested


def test_what_a_label_leaves_open_is_not_judged() -> None:
    probabilities = np.array([[0.98, 0.97, 0.01, 0.02]] * 40)
    assert threshold(probabilities, [("a", "x")] * 30 + [("a",)] * 10, tree=DEEP) == 0.4
    assert math.isinf(threshold(probabilities, [("a",)] * 40, tree=DEEP))


def test_images_without_a_label_and_without_an_answer_are_left_out() -> None:
    assert math.isinf(threshold(flat([0.96] * 40), [("a",)] * 15 + [()] * 25))
    tree = Tree("kind", "image", "taxonomy", (NO_ANSWER, ("b",)))
    assert math.isinf(threshold(flat([0.96] * 40), [NO_ANSWER] * 40, tree=tree))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows, 1 truths and 1 products"):
        fit_promise(FLAT, np.zeros((2, 2)), [[("a",)]], ["p"])


def test_the_promise_holds_for_products_that_are_right_or_wrong_as_a_whole() -> None:
    """With confidence .8, at most a fifth of the trials may have a precision below the target."""
    random = np.random.default_rng(0)
    broken = given = 0
    for _ in range(200):
        chance = random.uniform(0.5, 1, 120)  # of each product
        score = 0.4 + 0.59 * chance
        products = np.repeat(np.arange(120), random.integers(1, 7, 120))
        right = (random.random(120) < chance)[products]
        labels: list[TaxonomyPath] = [("a",) if is_right else ("b",) for is_right in right]
        found = threshold(flat(score[products].tolist()), labels, products.tolist(), target=0.8)
        if math.isinf(found):
            continue
        given += 1
        broken += chance[score >= found].mean() < 0.8
    assert given > 100
    assert broken <= 0.2 * given
