"""Two models on the same images: figures that were worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from taxonomist.taxonomy.comparison import PathScores, compare_paired, path_scores
from taxonomist.taxonomy.comparison.paired import LEAST_PROBABILITY
from taxonomist.taxonomy.paths import TaxonomyPath

NODES = (("bath",), ("bath", "sink"), ("bath", "tub"), ("pipes",))
# P(path) of two images
SURE = np.log(np.array([[0.9, 0.6, 0.3, 0.1], [0.2, 0.1, 0.1, 0.8]]))


def test_scores_of_a_path_a_shorter_label_and_two_labels() -> None:
    truths: list[list[TaxonomyPath]] = [[("bath", "sink")], [("bath",), ("pipes",)]]
    scores = path_scores(truths, [("bath", "tub"), ("pipes",)], NODES, SURE)
    assert scores.shared.tolist() == [1, 1]
    assert scores.given.tolist() == [2, 1]
    assert scores.wanted.tolist() == [2, 2]
    assert scores.log_probability == pytest.approx([np.log(0.9 * 0.6) / 2, 0])
    assert scores.hierarchical_f1 == pytest.approx(2 * 2 / 7)


def test_what_a_model_does_not_know_has_the_least_probability() -> None:
    truths: list[list[TaxonomyPath]] = [[("bath", "shower")], [("pipes",)]]
    known = path_scores(truths, [("bath",), ("pipes",)], NODES, SURE)
    assert known.log_probability == pytest.approx([np.log(0.9 * LEAST_PROBABILITY) / 2, np.log(0.8)])
    unknown = path_scores(truths, [None, None], (), None)
    assert np.exp(unknown.log_probability) == pytest.approx([LEAST_PROBABILITY] * 2)
    assert unknown.hierarchical_f1 == 0


def test_probabilities_of_merged_nodes_are_added_up() -> None:
    nodes = (("bath",), ("bath", "sink"), ("bath", "sink"), ("pipes",))
    found = path_scores([[("bath", "sink")]], [("bath", "sink")], nodes, SURE[:1])
    assert found.log_probability == pytest.approx([np.log(0.9 * (0.6 + 0.3)) / 2])


def test_a_shorter_label_beside_a_longer_one_counts_at_both_levels() -> None:
    found = path_scores([[("bath", "sink"), ("pipes",)]], [("pipes",)], NODES, SURE[:1])
    assert found.log_probability == pytest.approx([np.log((0.9 + 0.1) * (0.6 + 0.1)) / 2])


def scores(shared: list[float], probability: list[float]) -> PathScores:
    two = np.full(len(shared), 2.0)
    return PathScores(np.array(shared), two, two, np.log(probability))


def test_differences_are_added_up_by_product() -> None:
    """Three images of product a, one of b: the shares 2 * (shared - shared) are 2, 2, -2 and -2."""
    new, old = scores([2, 2, 1, 1], [0.5] * 4), scores([1, 1, 2, 2], [0.25, 0.5, 0.5, 0.5])
    found = compare_paired(new, old, ["a", "a", "a", "b"])
    assert (found.labels, found.products) == (4, 2)
    assert (found.f1, found.champion_f1) == (0.75, 0.75)
    assert found.t_f1 == pytest.approx((2 - 2) / math.sqrt(2**2 + 2**2))
    assert found.loss == pytest.approx(math.log(2))
    assert found.champion_loss == pytest.approx(math.log(2) * 1.25)
    assert found.t_loss == pytest.approx(1)  # one product differs
    alone = compare_paired(new, old, list("abcd"))
    assert alone.t_f1 == pytest.approx(0)
    assert not alone.is_worse


def test_one_product_has_one_vote_however_many_images_it_has() -> None:
    """Product a gains on 20 images, nine other products lose on one each."""
    new, old = scores([2.0] * 20 + [1.0] * 9, [0.5] * 29), scores([1.0] * 20 + [2.0] * 9, [0.5] * 29)
    by_product = compare_paired(new, old, ["a"] * 20 + list("bcdefghij"))
    by_image = compare_paired(new, old, [str(number) for number in range(29)])
    assert by_product.t_f1 < 0.6
    assert by_image.t_f1 > 2


@pytest.mark.parametrize(
    ("new", "old", "worse"),
    [
        (([], []), ([], []), False),
        (([2.0], [0.5]), ([1.0], [0.5]), False),
        (([1.0], [0.5]), ([2.0], [0.5]), True),  # one product that differs is enough
        (([1.0], [0.6]), ([2.0], [0.5]), False),  # but not where the other figure is for it
        (([1.0], [0.4]), ([2.0], [0.5]), True),
        (([2.0] * 5, [0.5] * 5), ([2.0] * 5, [0.6] * 5), True),
        (([2.0] * 5, [0.5] * 5), ([2.0] * 5, [0.6] + [0.5] * 4), True),
        (([2.0] * 5, [0.5] * 5), ([2.0] * 5, [0.5] * 5), False),
    ],
)
def test_few_images_decide_by_their_signs(
    new: tuple[list[float], list[float]], old: tuple[list[float], list[float]], worse: bool
) -> None:
    products = [str(number) for number in range(len(new[0]))]
    assert compare_paired(scores(*new), scores(*old), products).is_worse is worse


@pytest.mark.parametrize(
    ("learned", "limit"),
    [
        ((0, 400), -0.7),  # not known
        ((400, 0), -0.7),
        ((400, 400), -0.7),
        ((440, 400), -0.7 - 10 * math.log(1.1)),
        ((4000, 400), -2.7),
        ((396, 400), -0.7 - 40 * math.log(0.99)),
        ((200, 400), 1.3),
    ],
)
def test_more_images_lower_the_limit_and_fewer_raise_it(learned: tuple[int, int], limit: float) -> None:
    """The challenger has lost on two of five products: t(F1) = t(log-loss) = -sqrt(2)."""
    new, old = scores([1.0] * 2 + [2.0] * 3, [0.4] * 2 + [0.5] * 3), scores([2.0] * 5, [0.5] * 5)
    found = compare_paired(new, old, list("abcde"), learned)
    assert found.limit == pytest.approx(limit)
    assert found.is_worse is (-2 * math.sqrt(2) < limit)
    assert replace(found, t_f1=limit / 2, t_loss=limit / 2).is_worse is False
    assert replace(found, t_f1=limit / 2, t_loss=limit / 2 - 0.01).is_worse is True


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="products of 2 labels"):
        compare_paired(scores([1.0], [0.5]), scores([1.0], [0.5]), ["a", "b"])
