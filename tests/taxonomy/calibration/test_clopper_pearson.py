"""The exact bound beside scipy's beta distribution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from taxonomist.taxonomy.calibration.clopper_pearson import (
    clopper_pearson_lower_bound,
    lower_bound_reaches,
    trials_needed,
)


@given(st.floats(0.5, 20_000), st.floats(0.001, 1), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_the_bound_is_a_quantile_of_the_beta_distribution(trials: float, share: float, confidence: float) -> None:
    successes = trials * share
    expected = beta.ppf(1 - confidence, successes, trials - successes + 1)
    assert clopper_pearson_lower_bound(successes, trials, confidence) == pytest.approx(expected, abs=1e-6)
    assert lower_bound_reaches(expected - 1e-6, successes, trials, confidence)
    assert not lower_bound_reaches(expected + 1e-6, successes, trials, confidence)


@pytest.mark.parametrize(("target", "confidence", "count"), [(0.9, 0.8, 16), (0.8, 0.8, 8), (0.9, 0.9, 22)])
def test_trials_without_a_failure(target: float, confidence: float, count: int) -> None:
    assert trials_needed(target, confidence) == count
    assert clopper_pearson_lower_bound(count, count, confidence) >= target
    assert clopper_pearson_lower_bound(count - 1, count - 1, confidence) < target


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (0, 10), (-1, 3)])
def test_without_successes_the_bound_is_zero(successes: float, trials: float) -> None:
    assert clopper_pearson_lower_bound(successes, trials, 0.8) == 0
    assert not lower_bound_reaches(0.001, successes, trials, 0.8)


def test_it_falls_below_a_share_that_was_measured() -> None:
    assert clopper_pearson_lower_bound(7, 7, 0.8) == pytest.approx(0.2 ** (1 / 7), abs=1e-9)
    assert clopper_pearson_lower_bound(90, 100, 0.8) < 0.9
