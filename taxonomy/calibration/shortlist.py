"""A few paths that contain the truth with the promised share, for images for which no single path can be promised."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.calibration.precision_test import PrecisionTest
from taxonomist.taxonomy.calibration.promise import GRID, Candidates, candidates_of, effective_number
from taxonomist.taxonomy.calibration.temperature_scaling import Truths
from taxonomist.taxonomy.calibration.thresholds import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath
from taxonomist.taxonomy.tree import IntArray, Tree

__all__ = ["MOST_PATHS", "Shortlist", "fit_shortlists", "shortlists"]

MOST_PATHS = 5
_LEAST_NODES_PER_PATH = 4  # a list has at most a quarter of the nodes that it is chosen from


@dataclass(frozen=True)
class Shortlist:
    """The likeliest paths of a level, best first, and the sum of their probabilities (0 to 1)."""

    paths: tuple[TaxonomyPath, ...]
    score: float
    level: int


def shortlists(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> list[Shortlist | None]:
    """Return, for each image, the likeliest nodes of the deepest level whose sum reaches its threshold, else None.

    `probabilities` (n, nodes) are the calibrated ones of the paths of all nodes. A list is meant for an image without a
    suggested path: its thresholds were fitted on such images. A level has its nodes and the leaves above it. Of these,
    at most `MOST_PATHS` and at most a quarter are listed; a level with fewer than eight has no lists. For a
    `leafs_only` control only leaves are listed. A node about which nothing was learned is not listed. Raises ValueError
    when the calibration does not fit the tree.
    """
    found: list[Shortlist | None] = [None] * len(probabilities)
    if not calibration.shortlists:
        return found
    if len(calibration.shortlists) != tree.depth:
        raise ValueError(f"{len(calibration.shortlists)} thresholds of shortlists for a tree of {tree.depth} levels")
    rest: IntArray = np.arange(len(probabilities))
    for level in range(tree.depth, 0, -1):
        threshold = calibration.shortlists[level - 1]
        if math.isinf(threshold) or not len(rest) or not (size := _size(nodes := _nodes(tree, level))):
            continue
        likeliest, masses = _likeliest(probabilities[rest], nodes, size)
        reaches = masses >= threshold
        for row, best, mass in zip(rest[reaches].tolist(), likeliest[reaches], masses[reaches].tolist(), strict=True):
            listed = best[probabilities[row, best] > 0].tolist()
            found[row] = Shortlist(tuple(tree.paths[node] for node in listed), min(mass, 1.0), level)
        rest = rest[~reaches]
    return found


def fit_shortlists(
    tree: Tree,
    probabilities: FloatArray,
    truths: Truths,
    products: Sequence[Hashable],
    calibration: Calibration,
    *,
    confidence: float = 0.80,
) -> Calibration:
    """Return the calibration with the lowest threshold of `GRID` per level with which lists keep its target precision.

    The images and the `calibration` are those of `fit_promise`. A list is right when a label goes through one of its
    paths, and not judged when a label stops above one of them. Levels are fitted from the top down; a deeper list takes
    the place of one above it. A threshold is kept when

    - of all images with a path or a list, the share that is right passes the `PrecisionTest` of the calibration's
      promise, as in `fit_promise`, and
    - of the images with a list, and of those with a list of this level, the share that is right reaches it.

    The thresholds of a level are tried from the strictest down, and the first that fails ends its trial.
    """
    paths = candidates_of(tree, probabilities, truths, products)
    lists = _lists_of(tree, probabilities, truths, paths.owners)
    trial = _Trial(paths, lists, calibration, confidence)
    thresholds = [math.inf] * tree.depth
    for level in range(tree.depth):
        for tried in GRID:
            passed = trial.passes((*thresholds[:level], tried, *thresholds[level + 1 :]), level)
            if passed is False:
                break
            if passed:
                thresholds[level] = tried
    return replace(calibration, shortlists=tuple(thresholds))


@dataclass(frozen=True)
class _Trial:
    """The images of a fit: their paths with the fitted threshold, and their lists of each level."""

    paths: Candidates
    lists: Candidates
    calibration: Calibration
    confidence: float

    def passes(self, thresholds: tuple[float, ...], level: int) -> bool | None:
        """Return whether lists with these thresholds keep the target, None when too few images say so."""
        target = self.calibration.target_precision
        test = PrecisionTest(self.calibration.promise, target, self.confidence)
        path, listed = self.paths.chosen(self.calibration.thresholds), self.lists.chosen(thresholds)
        judged = np.where(path.any, path.judged, listed.judged)
        right = np.where(path.any, path.right, listed.right)
        with_list = listed.judged & ~path.any
        here = with_list & (listed.level == level)
        count = effective_number(self.paths.owners[judged])
        if not here.any() or count < test.needed:
            return None
        passes = test.passes(float(right[judged].mean()), count)
        return bool(passes and right[with_list].mean() >= target and right[here].mean() >= target)


def _nodes(tree: Tree, level: int) -> IntArray:
    """Return the nodes of a level and the leaves above it; none where a `leafs_only` control has none to list."""
    is_listed = (tree.levels == level) | (tree.is_leaf & (tree.levels < level))
    if NO_ANSWER in tree:
        is_listed[tree.index[NO_ANSWER]] = False
    if tree.leafs_only and not tree.is_leaf[is_listed].all():
        is_listed[:] = False
    return np.flatnonzero(is_listed)


def _size(nodes: IntArray) -> int:
    """Return how many of the nodes a list has; 0 where it would be a single one."""
    size = min(MOST_PATHS, len(nodes) // _LEAST_NODES_PER_PATH)
    return size if size > 1 else 0


def _likeliest(probabilities: FloatArray, nodes: IntArray, size: int) -> tuple[IntArray, FloatArray]:
    """Return for probabilities (n, nodes) the likeliest of some nodes (n, size), best first, and their sums (n,)."""
    values, rows = probabilities[:, nodes], np.arange(len(probabilities))[:, None]
    best = np.argpartition(values, len(nodes) - size, axis=1)[:, -size:]
    best = best[rows, np.argsort(-values[rows, best], axis=1, kind="stable")]
    return nodes[best], values[rows, best].sum(axis=1)


def _lists_of(tree: Tree, probabilities: FloatArray, truths: Truths, owners: npt.NDArray[np.int64]) -> Candidates:
    """Return the lists of each image by level: sum of probabilities (0 for none), whether judged, whether right."""
    shape = (len(truths), tree.depth)
    scores, judged, right = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    named = np.zeros((len(truths), len(tree)), np.bool_)  # nodes that a label goes through
    open_ = np.zeros((len(truths), len(tree)), np.bool_)  # nodes at or below the end of a label
    for row, paths in enumerate(truths):
        for path in paths:
            ancestors = tree.ancestors(tree.index[path])
            named[row, list(ancestors)] = True
            open_[row, ancestors[-1]] = True
    for node in np.flatnonzero(tree.parents >= 0):  # each parent comes before its children
        open_[:, node] |= open_[:, tree.parents[node]]
    has_label = np.array([bool(paths) for paths in truths], np.bool_)
    for level in range(1, tree.depth + 1):
        if size := _size(nodes := _nodes(tree, level)):
            likeliest, masses = _likeliest(probabilities, nodes, size)
            is_listed = np.take_along_axis(probabilities, likeliest, axis=1) > 0
            found = (np.take_along_axis(named, likeliest, axis=1) & is_listed).any(axis=1)
            scores[:, level - 1] = np.where(has_label, masses, 0)
            right[:, level - 1] = found
            judged[:, level - 1] = found | ~(np.take_along_axis(open_, likeliest, axis=1) & is_listed).any(axis=1)
    return Candidates(scores, judged, right, owners)
