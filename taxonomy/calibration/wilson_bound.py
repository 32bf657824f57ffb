"""The lower bound of a share (a precision) that was estimated from few trials."""

import math

__all__ = ["wilson_lower_bound"]


def wilson_lower_bound(successes: int, trials: int, z: float) -> float:
    """Return the lower end of Wilson's score interval for a share, z standard deviations wide to one side; 0 for none.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if not trials:
        return 0.0
    share = successes / trials
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return (share + z**2 / (2 * trials) - spread) / (1 + z**2 / trials)
