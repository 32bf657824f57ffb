import math
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.taxonomy.agreement import agreement_report
from taxonomist.taxonomy.agreement.reliability import nominal_alpha, pairwise_agreement
from taxonomist.taxonomy.label_config import LabelConfig
from tests.taxonomy.conftest import SMALL, annotations_of, said


def test_by_hand() -> None:
    # 3 units of 2: aa, ab, bb. n = 6, a 3 times, b 3 times; 2 ordered pairs differ within, 18 of 30 over all.
    units = ["aa", "ab", "bb"]
    assert pairwise_agreement(units) == pytest.approx(2 / 3)
    assert nominal_alpha(units) == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_units_of_one_are_left_out() -> None:
    assert nominal_alpha(["aa", "ab", "bb", "c", ""]) == nominal_alpha(["aa", "ab", "bb"])
    assert pairwise_agreement(["aaa", "ab", "c"]) == 3 / 4


@pytest.mark.parametrize("units", [[], ["a", "b"], ["aa", "aa"]])
def test_undefined(units: list[str]) -> None:
    assert math.isnan(nominal_alpha(units))


# The worked examples of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), one row per observer,
# "." for a missing value: https://repository.upenn.edu/asc_papers/43
BINARY = ["0100000010", "1110010000"]  # section A
NOMINAL = ["aabbdcccedda", "babbbccceddd"]  # section B
MISSING = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]  # section C


@pytest.mark.parametrize(("observers", "alpha"), [(BINARY, 0.095), (NOMINAL, 0.692), (MISSING, 0.743)])
def test_worked_examples_of_the_paper(observers: list[str], alpha: float) -> None:
    units = [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]
    assert nominal_alpha(units) == pytest.approx(alpha, abs=0.0005)


def alpha_by_definition(units: list[list[str]]) -> float:
    """Return alpha from the coincidence matrix of the paper's section C, built pair by pair."""
    coincidences: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for unit in units:
        for first, second in permutations(unit, 2):
            coincidences[first, second] += Fraction(1, len(unit) - 1)
    totals: defaultdict[str, Fraction] = defaultdict(Fraction)
    for (first, _), count in coincidences.items():
        totals[first] += count
    n = sum(totals.values())
    observed = sum(count for (first, second), count in coincidences.items() if first != second) / n
    expected = sum(totals[a] * totals[b] for a in totals for b in totals if a != b) / (n * (n - 1))
    return float(1 - observed / expected)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=4, max_size=4), min_size=1, max_size=12))
def test_alpha_equals_its_definition(table: list[list[str | None]]) -> None:
    units = [[value for value in row if value is not None] for row in table]
    values = {value for unit in units if len(unit) >= 2 for value in unit}
    if len(values) < 2:
        assert math.isnan(nominal_alpha(units))
    else:
        assert nominal_alpha(units) == pytest.approx(alpha_by_definition(units), abs=1e-9)


def test_report_goes_level_by_level() -> None:
    images = [
        [said("anna", "A/B/X"), said("bert", "A/B/Y"), said("cleo", "A/C")],
        [said("anna", "D/E"), said("bert", "D"), said("bert", "A", minutes=-1)],
        [said("anna", "A/C", "D"), said("bert", "D/E", "A/C"), said("cleo", skipped=True)],
        [said("anna", "A"), said("bert", "D", rejected=True)],
        [],
    ]
    top, middle, bottom = agreement_report(images, SMALL)
    # level 1: AAA, DD and {A,D}{A,D}: all agree on three different answers
    assert (top.level, top.images, top.pairwise, top.alpha) == (1, 3, 1.0, 1.0)
    # level 2: B B C of the first; {C} and {C,E} of the third differ as wholes; who stopped above says nothing
    assert (middle.images, middle.pairwise) == (2, 1 / 4)
    # n = 5 with B 2, C 2, CE 1: observed (4 / 2 + 2 / 1) / 5, expected (25 - 9) / 20
    assert middle.alpha == pytest.approx(1 - (4 / 5) / (16 / 20))
    # level 3: X, Y of one image
    assert (bottom.images, bottom.pairwise) == (1, 0.0)
    assert bottom.alpha == pytest.approx(1 - (2 / 2) / (2 / 2))


def test_report_without_pairs() -> None:
    for level in agreement_report([[said("anna", "A")]], SMALL):
        assert level.images == 0
        assert math.isnan(level.pairwise)
        assert math.isnan(level.alpha)


def test_recorded_project(recorded: Callable[[str], Any], config: LabelConfig) -> None:
    images = [annotations_of(task, config) for task in recorded("export.json")]
    top = agreement_report(images, config.trees[0])[0]
    # B: bath, S: sanitary, O: sort out, M: both. BBB, BBS, BBS, MMB, OB (one skip): 3 + 1 + 1 + 1 + 0 of 13 pairs
    assert top.images == 5
    assert top.pairwise == pytest.approx(6 / 13)
    # n = 14 with B 9, S 2, M 2, O 1: observed (4 / 2 + 4 / 2 + 4 / 2 + 2 / 1) / 14, expected (196 - 90) / (14 * 13)
    assert top.alpha == pytest.approx(1 - (8 / 14) / (106 / 182))
