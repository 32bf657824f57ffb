"""Tests again and again, with one stated error for all of the tests, whether a former version was right more often."""

from __future__ import annotations

import math

__all__ = ["RISK", "evidence_for_former"]

RISK = 0.05
"""The chance that the evidence ever reaches 1 / RISK, however often it is looked at, though the served version is right
at least as often as the former one where one of them is right alone."""


def evidence_for_former(former: int, served: int) -> float:
    """Return the evidence that the former version is the better one; 1 where there is none.

    Both versions suggested paths for the same images. Of the products where one suggestion was better than the other,
    `former` and `served` count those of each version. With p the chance that it is the former one, the evidence is the
    likelihood of the counts, on average over all p from 1/2 to 1, divided by that for p = 1/2. With n = former +
    served that is former! served! / (n + 1)! times the sum of the binomial coefficients of n + 1 over 0 to former.
    For p ≤ 1/2 it is a supermartingale, so by Ville's inequality it reaches 1 / a with a chance of at most a. Source:
    Ramdas and others 2023, Game-theoretic statistics and safe anytime-valid inference,
    https://doi.org/10.1214/23-STS894

    >>> round(evidence_for_former(6, 0), 1), round(evidence_for_former(7, 0), 1)
    (18.1, 31.9)
    """
    trials = former + served + 1
    terms = [math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in range(former + 1)]
    highest = max(terms)
    log_sum = highest + math.log(math.fsum(math.exp(term - highest) for term in terms))
    log_evidence = math.lgamma(former + 1) + math.lgamma(served + 1) - math.lgamma(trials + 1) + log_sum
    return math.exp(min(log_evidence, 700.0))
