"""One threshold for a whole tree, with which suggestions keep a promised precision on unseen products."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.calibration.precision_test import PrecisionTest, Promise
from taxonomist.taxonomy.calibration.temperature_scaling import Truths
from taxonomist.taxonomy.calibration.thresholds import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_paths
from taxonomist.taxonomy.paths import NO_ANSWER, prefixes
from taxonomist.taxonomy.tree import Tree

__all__ = ["GRID", "Candidates", "candidates_of", "effective_number", "fit_promise"]

GRID = tuple(percent / 100 for percent in range(95, 35, -5))
"""The thresholds that are tried, from the strictest down. They were chosen before any result was seen."""

_DRAWN = 4.0  # suggestions with the target precision that are added before the number of labels is estimated
_LEAST_FACTOR, _MOST_FACTOR = 1.25, 10.0  # between labels needed and labels; more than that is no estimate


def fit_promise(
    tree: Tree,
    probabilities: FloatArray,
    truths: Truths,
    products: Sequence[Hashable],
    *,
    target_precision: float = 0.90,
    confidence: float = 0.80,
    promise: Promise = "sure",
) -> Calibration:
    """Return the lowest threshold of `GRID` with which suggestions keep `target_precision`: with `confidence` for the
    promise "sure", on average over many calibrations for "average".

    `probabilities` (n, nodes) are P(path) of images by models that did not see their products, `truths` their accepted
    labels (an image with an empty one is left out). With a threshold t, the deepest node on the greedy path whose
    probability reaches t is suggested, whatever its level. It is right when a label goes through it, and not judged
    when a label stops above it on the same path.

    The thresholds are tried from the strictest down, and the first that fails ends the trial: a later one is never
    believed although an earlier one failed, so a confidence holds for the sequence as for a single threshold
    (Angelopoulos et al. 2021, Learn then test, section 5, https://arxiv.org/abs/2110.01052). `PrecisionTest` says when
    a threshold fails. Images of a product count as far as they are independent, see `effective_number`. Thresholds with
    too few suggestions to pass are skipped at the beginning.

    All levels have the threshold in the result, `inf` when none passes. Raises ValueError when the shapes differ.
    """
    if not len(probabilities) == len(truths) == len(products):
        raise ValueError(f"{len(probabilities)} rows, {len(truths)} truths and {len(products)} products")
    candidates = candidates_of(tree, probabilities, truths, products)
    test = PrecisionTest(promise, target_precision, confidence)
    labels = sum(1 for paths in truths if paths)
    threshold = math.inf
    for tried in GRID:
        right, owners = candidates.suggested(tried)
        count = effective_number(owners)
        if math.isinf(threshold) and count < test.needed:
            continue
        if not test.passes(float(np.mean(right)), count):
            break
        threshold = tried
    return Calibration(
        1.0,
        (threshold,) * tree.depth,
        target_precision,
        candidates.support(tree.depth),
        promise=promise,
        labels=labels,
        labels_needed=None if math.isfinite(threshold) else _labels_needed(candidates, labels, test),
    )


def _labels_needed(candidates: Candidates, labels: int, test: PrecisionTest) -> int | None:
    """Return about how many labels it takes until some threshold passes, None where those of today do not say it.

    The precision of a threshold is drawn towards the target as by a few more suggestions: that of the luckiest
    threshold is too good.
    """
    factors = []
    for tried in GRID:
        right, owners = candidates.suggested(tried)
        if count := effective_number(owners):
            precision = (float(np.mean(right)) * count + test.target * _DRAWN) / (count + _DRAWN)
            factors.append(test.count_for(precision, _MOST_FACTOR * count) / count)
    factor = max(min(factors, default=math.inf), _LEAST_FACTOR)
    return None if math.isinf(factor) else _round_up(labels * factor)


def _round_up(number: float) -> int:
    """Return the next number with two digits that count.

    >>> _round_up(1234)
    1300
    """
    unit = int("1" + "0" * max(len(str(int(number))) - 2, 0))
    return math.ceil(number / unit) * unit


def effective_number(owners: npt.NDArray[np.int64]) -> float:
    """Return (sum of s)² / sum of s², where s is the number of images of each product in `owners` (n,).

    It is the number of independent images when those of a product are all right or all wrong (Kish 1965, Survey
    sampling, 8.2).
    """
    sizes = np.bincount(owners) if len(owners) else np.zeros(1)
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1))


class Chosen(NamedTuple):
    """Of each image (n,): whether a candidate is chosen, its level from 0, and whether it is judged, and right."""

    any: npt.NDArray[np.bool_]
    level: npt.NDArray[np.intp]
    judged: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """A candidate of each image and level, such as the node of its greedy path: probability (0 without one), whether
    judged, whether right."""

    scores: FloatArray  # (n, depth)
    judged: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]
    owners: npt.NDArray[np.int64]  # (n,)

    def chosen(self, thresholds: Sequence[float]) -> Chosen:
        """Return the deepest candidate of each image that reaches the threshold of its level."""
        reached = self.scores >= np.asarray(thresholds)
        deepest = reached.shape[1] - 1 - np.argmax(reached[:, ::-1], axis=1)
        rows = np.arange(len(reached))
        is_chosen = np.any(reached, axis=1)
        return Chosen(is_chosen, deepest, is_chosen & self.judged[rows, deepest], is_chosen & self.right[rows, deepest])

    def suggested(self, threshold: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return of the judged suggestions which are right, and their products."""
        chosen = self.chosen([threshold] * self.scores.shape[1])
        rows = np.flatnonzero(chosen.judged)
        return chosen.right[rows], self.owners[rows]

    def support(self, depth: int) -> tuple[int, ...]:
        return tuple(int(self.judged[:, level].sum()) for level in range(depth))


def candidates_of(tree: Tree, probabilities: FloatArray, truths: Truths, products: Sequence[Hashable]) -> Candidates:
    """Return the nodes of each image's greedy path. An image without a label has no candidate."""
    shape = (len(truths), tree.depth)
    scores, judged, right = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    numbers: dict[Hashable, int] = {}
    owners = np.array([numbers.setdefault(product, len(numbers)) for product in products], np.int64)
    walks = greedy_paths(tree, probabilities)
    for row, (values, paths, walk) in enumerate(zip(probabilities, truths, walks.tolist(), strict=True)):
        if not paths:
            continue
        named = {node for path in paths for node in prefixes(path)}
        for node in walk:
            if node < 0:
                break
            path = tree.paths[node]
            if path == NO_ANSWER or (tree.leafs_only and not tree.is_leaf[node]):
                continue
            level = len(path) - 1
            scores[row, level] = values[node]
            right[row, level] = path in named
            judged[row, level] = path in named or not any(path[: len(truth)] == truth for truth in paths)
    return Candidates(scores, judged, right, owners)
