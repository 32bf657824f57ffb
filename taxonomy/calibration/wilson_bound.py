"""Wilson's lower bound of a proportion, such as a precision that was measured on few images."""

import math

__all__ = ["wilson_lower_bound"]


def wilson_lower_bound(successes: int, trials: int, z: float) -> float:
    """Return the lower end of Wilson's score interval for the proportion `successes / trials`; 0 without trials.

    `z` is the one-sided confidence in standard deviations of the normal distribution: 0.84 for 80 %, 1.64 for 95 %.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927),
    https://doi.org/10.1080/01621459.1927.10502953

    >>> round(wilson_lower_bound(20, 20, 0.8416), 3)
    0.966
    """
    if not trials:
        return 0.0
    proportion = successes / trials
    margin = z * math.sqrt(proportion * (1 - proportion) / trials + (z / (2 * trials)) ** 2)
    return (proportion + z**2 / (2 * trials) - margin) / (1 + z**2 / trials)
