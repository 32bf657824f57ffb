"""Clopper and Pearson's exact lower bound of a proportion, such as a precision that was measured on few images."""

from __future__ import annotations

import math

__all__ = ["clopper_pearson_lower_bound", "lower_bound_reaches", "trials_needed"]

_TERMS = 500
_TINY = 1e-300


def clopper_pearson_lower_bound(successes: float, trials: float, confidence: float) -> float:
    """Return the lower bound of the proportion `successes / trials` with this confidence; 0 without successes.

    It is the quantile 1 - confidence of the beta distribution with the parameters successes and trials - successes + 1,
    so both numbers may be fractions: those of an effective number of trials. Found by bisection.

    Source: Clopper and Pearson, The use of confidence or fiducial limits (1934), https://doi.org/10.1093/biomet/26.4.404

    >>> round(clopper_pearson_lower_bound(16, 16, 0.8), 3)
    0.904
    """
    if successes <= 0 or trials <= 0:
        return 0.0
    a, b = min(successes, trials), max(trials - successes, 0.0) + 1
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_distribution(middle, a, b) < 1 - confidence else (low, middle)
    return (low + high) / 2


def lower_bound_reaches(target: float, successes: float, trials: float, confidence: float) -> bool:
    """Return whether `clopper_pearson_lower_bound` is at least `target`, without looking for the bound.

    >>> lower_bound_reaches(0.9, 16, 16, 0.8), lower_bound_reaches(0.91, 16, 16, 0.8)
    (True, False)
    """
    if successes <= 0 or trials <= 0:
        return target <= 0
    a, b = min(successes, trials), max(trials - successes, 0.0) + 1
    return _beta_distribution(target, a, b) <= 1 - confidence


def trials_needed(target: float, confidence: float) -> int:
    """Return how many trials without a failure bring the lower bound to the target.

    >>> trials_needed(0.9, 0.8)
    16
    """
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def _beta_distribution(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction.

    Source: NIST Digital Library of Mathematical Functions, 8.17.22, https://dlmf.nist.gov/8.17#v, evaluated from the
    front with Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _beta_distribution(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    numerator, denominator = 1.0, 0.0
    value = 1.0
    for term in range(_TERMS):
        half = term // 2
        if term == 0:
            coefficient = 1.0
        elif term % 2 == 0:
            coefficient = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            coefficient = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        denominator = 1 / _away_from_zero(1 + coefficient * denominator)
        numerator = _away_from_zero(1 + coefficient / numerator)
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-14:
            break
    return math.exp(log_front) * (value - 1) / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
