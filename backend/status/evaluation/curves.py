"""How precision and coverage depend on the threshold, and how far probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.status.evaluation.outcomes import VERSIONS_KEPT, ControlOutcomes
from taxonomist.taxonomy.paths import NO_ANSWER, prefixes
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.report.outcomes import ImageOutcome

THRESHOLDS = (*(round(0.05 * step, 2) for step in range(20)), 0.99)
BINS = 10
_NEVER = -1.0


@dataclass(frozen=True)
class CurvePoint:
    """What is suggested from a threshold on: a path for `suggested` of `images`; labels judge `judged` of these.

    `threshold` is a probability of 0 to 1, None where each level has one of its own.
    """

    threshold: float | None
    images: int
    suggested: int
    judged: int
    right: int

    @property
    def coverage(self) -> float:
        """The share of the images that get a path, 0 to 1."""
        return self.suggested / self.images if self.images else 0.0

    @property
    def precision(self) -> float | None:
        """The share of the judged paths that is right, None without any."""
        return self.right / self.judged if self.judged else None


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose likeliest path, down to where the label judges it, has a probability in a range.

    `probability` is the mean, `right` the number of right ones.
    """

    low: float
    high: float
    images: int
    probability: float
    right: int

    @property
    def share(self) -> float:
        """The share that is right, 0 to 1."""
        return self.right / self.images


def precision_curve(outcomes: ControlOutcomes) -> tuple[CurvePoint, ...]:
    """Return precision and coverage over `THRESHOLDS`, of one image alone and without shortlists."""
    rows = _rows_of(outcomes)
    return tuple(_point(rows, [threshold] * outcomes.tree.depth, threshold) for threshold in THRESHOLDS)


def at_thresholds(outcomes: ControlOutcomes, images: Sequence[ImageOutcome] | None = None) -> CurvePoint | None:
    """Return what the version suggests for its images, or for these, with the thresholds of its calibration; None
    without one."""
    if outcomes.calibration is None:
        return None
    rows = _rows_of(outcomes) if images is None else _rows(outcomes.tree, images)
    thresholds = outcomes.calibration.thresholds
    one = thresholds[0] if len(set(thresholds)) == 1 and np.isfinite(thresholds[0]) else None
    return _point(rows, thresholds, one)


def reliability(outcomes: ControlOutcomes) -> tuple[ReliabilityBin, ...]:
    """Return the bins of equal width that have an image, from the lowest probability to the highest."""
    found = _rows_of(outcomes)
    deepest = _deepest(found.is_right >= 0)
    rows = np.flatnonzero(deepest >= 0)
    values, right = found.probabilities[rows, deepest[rows]], found.is_right[rows, deepest[rows]] == 1
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(
            number / BINS,
            (number + 1) / BINS,
            int(chosen.sum()),
            float(values[chosen].mean()),
            int(right[chosen].sum()),
        )
        for number in range(BINS)
        if (chosen := bins == number).any()
    )


def mean_gap(bins: Sequence[ReliabilityBin]) -> float | None:
    """Return the mean distance between probability and share that is right, weighted by images; None without images.

    It is the expected calibration error of Guo et al., On calibration of modern neural networks (2017),
    https://proceedings.mlr.press/v70/guo17a.html.
    """
    images = sum(found.images for found in bins)
    return sum(found.images * abs(found.probability - found.share) for found in bins) / images if images else None


@dataclass(frozen=True)
class _Rows:
    """Images and levels of their likeliest paths, each array (n, levels).

    `probabilities` are `_NEVER` below the end of a path, `candidates` also where nothing may be suggested, see
    `suggestion.suggest`. `is_right` is 1 for a right node, 0 for a wrong one, and -1 where no label judges it: one that
    stops above it on the same path does not.
    """

    probabilities: NDArray[np.float64]
    candidates: NDArray[np.float64]
    is_right: NDArray[np.int8]


@lru_cache(VERSIONS_KEPT)
def _rows_of(outcomes: ControlOutcomes) -> _Rows:
    return _rows(outcomes.tree, outcomes.images)


def _rows(tree: Tree, images: Sequence[ImageOutcome]) -> _Rows:
    probabilities = np.full((len(images), tree.depth), _NEVER)
    candidates = np.full((len(images), tree.depth), _NEVER)
    is_right = np.full((len(images), tree.depth), -1, np.int8)
    for row, image in enumerate(images):
        depth = len(image.likeliest)
        probabilities[row, :depth] = image.probabilities
        if image.likeliest != NO_ANSWER:
            first = depth - 1 if tree.leafs_only else 0
            candidates[row, first:depth] = image.probabilities[first:]
        nodes = {node for label in image.labels for node in prefixes(label)}
        labels = set(image.labels)
        for level, path in enumerate(prefixes(image.likeliest)):
            if path in nodes:
                is_right[row, level] = 1
            elif not labels.intersection(prefixes(path)):
                is_right[row, level] = 0
    return _Rows(probabilities, candidates, is_right)


def _point(rows: _Rows, thresholds: Sequence[float], threshold: float | None) -> CurvePoint:
    values = rows.candidates
    deepest = _deepest((values >= np.array(thresholds)) & (values > _NEVER))
    suggested = np.flatnonzero(deepest >= 0)
    became = rows.is_right[suggested, deepest[suggested]]
    return CurvePoint(threshold, len(values), len(suggested), int((became >= 0).sum()), int((became == 1).sum()))


def _deepest(is_candidate: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the last level of each row that is a candidate, from 0, and -1 for none."""
    levels = is_candidate.shape[1]
    return np.where(is_candidate.any(axis=1), levels - 1 - is_candidate[:, ::-1].argmax(axis=1), -1)
