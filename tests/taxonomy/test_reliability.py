import math
from collections.abc import Callable
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.taxonomy.agreement import agreement_report
from taxonomist.taxonomy.annotations import parse_task
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.reliability import nominal_alpha, pairwise_agreement

from .conftest import SMALL, said


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


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=4, max_size=4), min_size=1, max_size=12))
def test_alpha_equals_the_package(table: list[list[str | None]]) -> None:
    units = [[value for value in row if value is not None] for row in table]
    ours = nominal_alpha(units)
    domain = {value for unit in units if len(unit) >= 2 for value in unit}
    if len(domain) < 2:
        assert math.isnan(ours)
        return
    codes = {"a": 0.0, "b": 1.0, "c": 2.0, None: np.nan}
    by_annotator = np.array([[codes[value] for value in row] for row in table]).T
    theirs = krippendorff.alpha(reliability_data=by_annotator, level_of_measurement="nominal")
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_report_goes_level_by_level() -> None:
    images = [
        [said("anna", "A/B/X"), said("bert", "A/B/Y"), said("cleo", "A/C")],
        [said("anna", "D/E"), said("bert", "D"), said("bert", "A", minutes=-1)],
        [said("anna", "A/C", "D"), said("bert", "D/E", "A/C"), said("cleo", skipped=True)],
        [said("anna", "A"), said("bert", "D", rejected=True)],
        [],
    ]
    top, middle, bottom = agreement_report(images, SMALL)
    # level 1: AAA, DD and {A,D}{A,D}: everybody agrees on three different answers
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
    images = [parse_task(task, config) for task in recorded("export.json")]
    top = agreement_report(images, config.trees[0])[0]
    # B: bath, S: sanitary, O: sort out, M: both. BBB, BBS, BBS, MMB, OB (one skip): 3 + 1 + 1 + 1 + 0 of 13 pairs
    assert (top.images, top.pairwise) == (5, pytest.approx(6 / 13))
    codes = [[0, 0, 0], [0, 0, 1], [0, 0, 1], [2, 2, 0], [3, np.nan, 0]]
    theirs = krippendorff.alpha(reliability_data=np.array(codes, float).T, level_of_measurement="nominal")
    assert top.alpha == pytest.approx(theirs)
