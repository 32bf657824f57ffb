"""A test that never ends: has the precision of suggestions fallen below its target, and which threshold still holds?"""

from __future__ import annotations

import math
from bisect import bisect_right

from taxonomist.taxonomy.calibration.promise import GRID

__all__ = ["HORIZON", "LIMIT", "RISK", "PromiseWatch"]

HORIZON = 10_000
"""Answers within which a promise that is kept is called broken with a probability of at most `RISK`."""
RISK = 0.05
LIMIT = 2 * HORIZON / RISK
"""The evidence with which a promise is called broken; the 2 is for the two streams, all answers and blind ones."""
_ODDS = (1.5, 2.5, 4.0)  # how many times the target's odds of a mistake each bet expects


class PromiseWatch:
    """Watches the answers to the suggestions of one model for one control, in their order.

    A right answer multiplies the evidence of a bet by (1 - q) / `target`, a wrong one by q / (1 - `target`), where q is
    the share of mistakes that the bet expects. While suggestions are right with a probability of at least `target`,
    whatever came before, the expected factor is at most 1. A fall may begin at any time, so a bet is begun with each
    answer, and the evidence R is the sum of all of them: R ← (R + 1) · factor. Then R minus the number of answers n is
    a supermartingale, and P(R reaches `LIMIT` within n answers) ≤ n / `LIMIT`. The mean over several q has the same
    property. Sources: Shin, Ramdas and Rinaldo 2022, E-detectors, https://arxiv.org/abs/2203.03532; Roberts 1966, A
    comparison of some control chart procedures, https://doi.org/10.1080/00401706.1966.10490374

    Answers of blind tasks, whose annotators saw no suggestion, are watched a second time by themselves: people who
    accept whatever is shown hide a fall from the others.

    Each value of `GRID` above `threshold`, the lowest with which the model suggests, has its own evidence, from the
    suggestions that reach it. When the promise breaks, `floor` rises to the lowest stricter value that is not broken.
    The memory is constant: 6 numbers for each threshold. Raises ValueError for a target that is not between 0 and 1.
    """

    def __init__(self, target: float, threshold: float) -> None:
        if not 0 < target < 1:
            raise ValueError(f"the target {target} is not between 0 and 1")
        self._target = target
        mistakes = [odds / (odds + target / (1 - target)) for odds in _ODDS]
        wrong = [share / (1 - target) for share in mistakes]
        right = [(1 - share) / target for share in mistakes]
        self._factors = (wrong, right)
        self._grid = (threshold, *sorted(value for value in GRID if value > threshold))
        self._evidence = [[[0.0] * len(_ODDS) for _ in range(2)] for _ in self._grid]
        self._broken = [False] * len(self._grid)
        self._in_force = 0

    def following(self, target: float, threshold: float) -> PromiseWatch:
        """Return the watch of the next version. It carries the evidence on, unless the promise is broken.

        Versions may follow each other faster than a fall can be found. After a break, and for another target, the next
        version begins anew. A threshold that is broken while a lower one is not begins anew, too.
        """
        following = PromiseWatch(target, threshold)
        if target == self._target and not self.floor:
            for place, value in enumerate(following._grid):
                former = bisect_right(self._grid, value) - 1 if place else 0
                if not self._broken[max(former, 0)]:
                    following._evidence[place] = [list(bets) for bets in self._evidence[max(former, 0)]]
        return following

    @property
    def floor(self) -> float:
        """The least score of a suggestion; 0 while the promise holds, `inf` when no threshold holds."""
        if self._in_force == len(self._grid):
            return math.inf
        return self._grid[self._in_force] if self._in_force else 0.0

    def update(self, score: float, *, right: bool, blind: bool = False) -> bool:
        """Take the answer to a suggestion with this score; return whether the floor rises."""
        before = self._in_force
        factors = self._factors[right]
        for place in range(before, bisect_right(self._grid, score)):
            if self._broken[place]:
                continue
            streams = self._evidence[place]
            for stream in range(1 + blind):
                bets = [(bet + 1) * factor for bet, factor in zip(streams[stream], factors, strict=True)]
                streams[stream] = bets
                self._broken[place] |= sum(bets) >= LIMIT * len(bets)
        while self._in_force < len(self._grid) and self._broken[self._in_force]:
            self._in_force += 1
        return self._in_force > before
