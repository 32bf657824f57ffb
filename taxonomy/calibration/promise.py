"""One threshold for a whole tree, with which suggestions keep a promised precision on unseen products."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.calibration.clopper_pearson import clopper_pearson_lower_bound, trials_needed
from taxonomist.taxonomy.calibration.temperature_scaling import Truths
from taxonomist.taxonomy.calibration.thresholds import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path
from taxonomist.taxonomy.paths import NO_ANSWER, prefixes
from taxonomist.taxonomy.tree import Tree

__all__ = ["GRID", "Candidates", "candidates_of", "effective_number", "fit_promise"]

GRID = tuple(percent / 100 for percent in range(95, 35, -5))
"""The thresholds that are tried, from the strictest down. They were chosen before any result was seen."""


def fit_promise(
    tree: Tree,
    probabilities: FloatArray,
    truths: Truths,
    products: Sequence[Hashable],
    *,
    target_precision: float = 0.90,
    confidence: float = 0.80,
) -> Calibration:
    """Return the lowest threshold of `GRID` with which suggestions keep `target_precision` with `confidence`.

    `probabilities` (n, nodes) are P(path) of images by models that did not see their products, `truths` their accepted
    labels (an image with an empty one is left out). With a threshold t, the deepest node on the greedy path whose
    probability reaches t is suggested, whatever its level. It is right when a label goes through it, and not judged
    when a label stops above it on the same path.

    The thresholds are tried from the strictest down, and the first that fails ends the trial: a later one is never
    believed although an earlier one failed, so the confidence holds for the sequence as for a single threshold
    (Angelopoulos et al. 2021, Learn then test, section 5, https://arxiv.org/abs/2110.01052). A threshold fails when the
    exact lower bound of the precision is below the target. Images of a product count as far as they are independent,
    see `effective_number`. Thresholds with too few suggestions to pass are skipped at the beginning. The bound takes
    half of the risk, 1 - `confidence`: predictions by models without a product are not quite those of the model that is
    served, and with all of the risk some kinds of data broke the promise too often (measured).

    All levels have the threshold in the result, `inf` when none passes. Raises ValueError when the shapes differ.
    """
    if not len(probabilities) == len(truths) == len(products):
        raise ValueError(f"{len(probabilities)} rows, {len(truths)} truths and {len(products)} products")
    candidates = candidates_of(tree, probabilities, truths, products)
    confidence = 1 - (1 - confidence) / 2
    needed = trials_needed(target_precision, confidence)
    threshold = math.inf
    for tried in GRID:
        right, owners = candidates.suggested(tried)
        count = effective_number(owners)
        if math.isinf(threshold) and count < needed:
            continue
        if clopper_pearson_lower_bound(float(np.mean(right)) * count, count, confidence) < target_precision:
            break
        threshold = tried
    return Calibration(1.0, (threshold,) * tree.depth, target_precision, candidates.support(tree.depth))


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
    for row, (values, paths) in enumerate(zip(probabilities, truths, strict=True)):
        if not paths:
            continue
        named = {node for path in paths for node in prefixes(path)}
        for node in greedy_path(tree, values):
            path = tree.paths[node]
            if path == NO_ANSWER or (tree.leafs_only and not tree.is_leaf[node]):
                continue
            level = len(path) - 1
            scores[row, level] = values[node]
            right[row, level] = path in named
            judged[row, level] = path in named or not any(path[: len(truth)] == truth for truth in paths)
    return Candidates(scores, judged, right, owners)
