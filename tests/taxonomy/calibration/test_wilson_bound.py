import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from taxonomist.taxonomy.calibration import wilson_lower_bound


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from([0.6, 0.8, 0.95]))
def test_wilson_bound_equals_scipy(trials: int, successes: int, confidence: float) -> None:
    successes = min(successes, trials)
    theirs = binomtest(successes, trials, alternative="greater").proportion_ci(confidence, method="wilson")
    z = {0.6: 0.2533471031357997, 0.8: 0.8416212335729143, 0.95: 1.6448536269514722}[confidence]
    assert wilson_lower_bound(successes, trials, z) == pytest.approx(theirs.low, abs=1e-9)
    assert wilson_lower_bound(0, 0, z) == 0
