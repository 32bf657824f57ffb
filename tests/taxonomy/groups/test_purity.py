"""Purity of groups, by hand."""

from __future__ import annotations

import pytest
from scipy.stats import beta

from taxonomist.taxonomy.groups import pure_depth, purity_by_level
from taxonomist.taxonomy.paths import TaxonomyPath

SOFA, CHAIR, LAMP, SEAT = ("seats", "sofas"), ("seats", "chairs"), ("lamps",), ("seats",)
Labels = list[tuple[TaxonomyPath, ...]]


def test_a_group_counts_once_with_the_share_of_its_pairs_that_agree() -> None:
    labels: Labels = [(SOFA,), (SOFA,), (CHAIR,), (LAMP,), (SOFA,), (SOFA,), (LAMP,)]
    first, second = purity_by_level(labels, ["a", "a", "a", "a", "b", "b", "c"], 2)
    assert (first.groups, second.groups) == (2, 2)  # c has one image
    assert first.agreement == pytest.approx((3 / 6 + 1) / 2)
    assert second.agreement == pytest.approx((1 / 3 + 1) / 2)  # the lamp does not reach level 2
    assert first.bound == pytest.approx(beta.ppf(0.1, 1.5, 2 - 1.5 + 1), abs=1e-6)


def test_a_label_that_stops_above_the_level_says_nothing_about_it() -> None:
    first, second = purity_by_level([(SOFA,), (SEAT,)], ["a", "a"], 2)
    assert (first.groups, first.agreement) == (1, 1.0)
    assert (second.groups, second.agreement, second.bound) == (0, 0.0, 0.0)


def test_images_with_several_labels_agree_on_a_common_one() -> None:
    labels: Labels = [(SOFA, LAMP), (LAMP,), (CHAIR,)]
    first, second = purity_by_level(labels, ["a"] * 3, 2)
    assert first.agreement == pytest.approx(2 / 3)  # all but the lamp and the chair
    assert second.agreement == 0.0


@pytest.mark.parametrize(("groups", "depth"), [(21, 0), (22, 2)])
def test_few_groups_do_not_prove_that_a_grouping_is_pure(groups: int, depth: int) -> None:
    labels: Labels = [(SOFA,) for _ in range(2 * groups)]
    purity = purity_by_level(labels, [number // 2 for number in range(2 * groups)], 3)
    assert pure_depth(purity) == depth  # 0.9 ** 22 < 0.1


def test_a_level_below_an_impure_one_is_not_pure() -> None:
    pairs: Labels = [(SOFA,), (LAMP,)]
    labels: Labels = pairs * 5 + [(SOFA,) for _ in range(200)]
    first, second = purity_by_level(labels, [number // 2 for number in range(210)], 2)
    assert second.bound > first.bound > 0.9
    assert pure_depth((first, second), 0.97) == 0
