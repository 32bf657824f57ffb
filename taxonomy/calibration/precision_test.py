"""Whether suggestions were right often enough for a promise: with confidence, or on average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from taxonomist.taxonomy.calibration.clopper_pearson import lower_bound_reaches, trials_needed

__all__ = ["SURE_FROM", "PrecisionTest", "Promise", "promise_for"]

Promise = Literal["sure", "average"]
"""`sure`: with confidence, the suggestions of a version reach the target. `average`: those of many versions do."""

SURE_FROM = 200
"""`sure` is the default from SURE_FROM / (1 - target) labels on: with fewer, it leaves out most of what `average`
suggests (`benchmarks.promise`)."""

BATCH_MISTAKES = 40
"""The mistakes that the target allows in the batch of suggestions about which `sure` makes its promise."""

_TOLERANCE = 0.01  # of a number of suggestions, as a share of it


def promise_for(labels: int, target: float) -> Promise:
    """Return the promise for a number of labels where none is chosen.

    >>> promise_for(400, 0.8), promise_for(1000, 0.8), promise_for(1000, 0.9)
    ('average', 'sure', 'average')
    """
    return "sure" if labels * (1 - target) >= SURE_FROM - 1e-9 else "average"


@dataclass(frozen=True)
class PrecisionTest:
    """Compares the precision of suggestions with a target.

    `sure`: the exact lower bound of the precision in a batch of further suggestions reaches the target. People see such
    batches, of which the precision varies around the true one as that of the calibration does: so the suggestions count
    as far as the difference of two means says, n m / (n + m) for n suggestions and a batch of m. The batch is as large
    as `BATCH_MISTAKES` say, of different products. The bound takes half of the risk, 1 - `confidence`: predictions by
    models without a product are not quite those of the model that is served, and with all of the risk some kinds of
    data broke the promise too often (measured).

    `average`: the target is reached even if one more product is suggested, and is wrong. Let the products of the
    calibration and the next one be exchangeable, and a threshold be the strictest one at which the sum of (wrong -
    (1 - target) suggested) over all of these is at most 0: each product then has the same expected share in the sum, so
    of all suggestions, over draws of labels, at most 1 - target are wrong. The next product is not known yet, and
    counts as wrong (Angelopoulos et al. 2022, Conformal risk control, https://arxiv.org/abs/2208.02814). Their proof is
    for a loss that never rises with the threshold. That of precision may rise, so all stricter thresholds have to pass,
    too, and the table of `benchmarks.promise` is the evidence.
    """

    promise: Promise
    target: float
    confidence: float = 0.80

    @property
    def needed(self) -> float:
        """The number of independent suggestions that pass if all are right."""
        if self.promise == "average":
            return self.target / (1 - self.target) - 1e-9
        trials = trials_needed(self.target, self._confidence)
        return trials / (1 - trials / self._batch)

    def passes(self, precision: float, count: float) -> bool:
        """Return whether `count` independent suggestions with this precision are right often enough."""
        if self.promise == "average":
            return (1 - precision) * count + 1 <= (1 - self.target) * (count + 1) + 1e-9
        trials = count / (1 + count / self._batch)
        return lower_bound_reaches(self.target, precision * trials, trials, self._confidence)

    def count_for(self, precision: float, most: float) -> float:
        """Return how many independent suggestions with this precision pass; `inf` where it is more than `most`."""
        low, high = 0.0, most
        if precision <= self.target or not self.passes(precision, most):
            return math.inf
        while high - low > _TOLERANCE * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.passes(precision, middle) else (middle, high)
        return high

    @property
    def _batch(self) -> float:
        """The suggestions of a batch."""
        return BATCH_MISTAKES / (1 - self.target)

    @property
    def _confidence(self) -> float:
        return 1 - (1 - self.confidence) / 2
