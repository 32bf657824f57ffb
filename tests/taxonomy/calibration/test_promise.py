"""The threshold of a whole tree: values by hand, and the promise in simulations with products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from taxonomist.taxonomy.calibration import Promise, fit_promise
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
    promise: Promise = "sure",
) -> float:
    truths = [[label] if label else [] for label in labels]
    numbers = products or range(len(labels))
    found = fit_promise(tree, probabilities, truths, list(numbers), target_precision=target, promise=promise)
    assert len(set(found.thresholds)) == 1
    assert found.temperature == 1
    return found.thresholds[0]


def test_right_suggestions_that_keep_a_promise_of_nine_in_ten() -> None:
    """With the confidence .8 half of the risk is .1, and .9 to the power of 21.9 is .1: 24 / (1 + 24 / 400) is more."""
    assert threshold(flat([0.96] * 24), [("a",)] * 24) == 0.4
    assert math.isinf(threshold(flat([0.96] * 23), [("a",)] * 23))


def test_nine_right_suggestions_promise_nine_in_ten_on_average() -> None:
    assert threshold(flat([0.96] * 9), [("a",)] * 9, promise="average") == 0.4
    assert math.isinf(threshold(flat([0.96] * 8), [("a",)] * 8, promise="average"))


@pytest.mark.parametrize("promise", ["sure", "average"])
def test_the_first_threshold_that_fails_ends_the_trial(promise: Promise) -> None:
    # At .95 all are right, at .80 half are wrong, at .60 many more are right: these are never tried.
    confidences = [0.97] * 24 + [0.82] * 16 + [0.65] * 400
    labels = [("a",)] * 24 + [("a",), ("b",)] * 8 + [("a",)] * 400
    assert threshold(flat(confidences), labels, promise=promise) == 0.85


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


def test_how_many_labels_it_takes_until_something_is_suggested() -> None:
    def said(confidences: Sequence[float], labels: Sequence[TaxonomyPath]) -> str:
        truths = [[label] if label else [] for label in labels]
        return fit_promise(FLAT, flat(confidences), truths, list(range(len(labels))), target_precision=0.9).describe()

    # Ten of ten are right; with four more that are right in .9 of the cases, .971 are. The bound passes for that share
    # of 40 trials, which 44 suggestions are worth: 44 / (1 + 44 / 400).
    assert said([0.96] * 10, [("a",)] * 10) == "not enough labels yet: 10 of about 44 that calibrate"
    assert said([0.96] * 10, [("b",)] * 10) == "not enough labels yet: 10 of more than 20 that calibrate"
    assert said([0.96] * 3, [("a",), (), ()]) == "not enough labels yet: 1 of more than 2 that calibrate"
    assert said([0.96] * 24, [("a",)] * 24) == (
        "paths with a probability of 0.40 or more; 90% of them are right with confidence"
    )


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


def test_the_average_keeps_the_target_over_many_calibrations() -> None:
    """Of all suggestions, over the trials, the target share is right; a single trial may be below it."""
    random = np.random.default_rng(1)
    right = np.zeros(3)
    below = 0
    for _ in range(150):
        chance = random.uniform(0.4, 1, 60)  # of each product
        score = 0.4 + 0.55 * (chance - 0.4) / 0.6
        products = np.repeat(np.arange(60), random.integers(1, 5, 60))
        is_right = (random.random(60) < chance)[products]
        labels: list[TaxonomyPath] = [("a",) if found else ("b",) for found in is_right]
        found = threshold(flat(score[products].tolist()), labels, products.tolist(), target=0.8, promise="average")
        if math.isinf(found):
            continue
        least = 0.4 + 0.6 * (found - 0.4) / 0.55  # the chance at the threshold
        precision, share = (least + 1) / 2, (1 - least) / 0.6
        right += (share * precision, share, 1)
        below += precision < 0.8
    assert right[2] > 100
    assert right[0] / right[1] >= 0.8
    assert below > 15
