"""Chooses the path that is suggested to the annotator: as deep as the model can be trusted, and no deeper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.taxonomy.calibration import Calibration, fit_calibration, shortlists
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path, greedy_paths
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath, common_prefix, format_path, prefixes
from taxonomist.taxonomy.tree import Tree

__all__ = ["Calibration", "Suggestion", "fit_calibration", "suggest", "suggest_each", "vote", "why_none"]


@dataclass(frozen=True)
class Suggestion:
    """A suggested path, its level, and a score from 0 to 1: its probability, or its share of the look-alikes' votes.

    Where no path can be promised, `shortlist` has a few that contain the right one with the promised share, best first,
    and `score` is the sum of their probabilities. `path` is then the parent that all of them share, () at level 0 when
    they share none or the control wants leaves. `images` of one product were predicted together.
    """

    path: TaxonomyPath
    score: float
    level: int
    shortlist: tuple[TaxonomyPath, ...] = ()
    images: int = 1


def suggest(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> Suggestion | None:
    """Return what `suggest_each` returns for one image; `probabilities` have the shape (nodes,)."""
    return suggest_each(tree, probabilities[None], calibration)[0]


def suggest_each(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> list[Suggestion | None]:
    """Return for each image the deepest node on the greedy path whose probability reaches the threshold of its level,
    else a shortlist where one keeps the promise, else None.

    `probabilities` are the calibrated ones of the paths of all nodes, shape (n, nodes). For a `leafs_only` control the
    path is a leaf or (). `NO_ANSWER` is never suggested. Raises ValueError when the calibration or the probabilities do
    not fit the tree.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(tree) or len(calibration.thresholds) != tree.depth:
        raise ValueError(
            f"{probabilities.shape} probabilities and {len(calibration.thresholds)} thresholds "
            f"for a tree of {len(tree)} nodes and {tree.depth} levels"
        )
    may_be = tree.is_leaf.copy() if tree.leafs_only else np.ones(len(tree), np.bool_)
    if NO_ANSWER in tree:
        may_be[tree.index[NO_ANSWER]] = False
    paths = greedy_paths(tree, probabilities)  # -1 below a leaf
    scores = np.take_along_axis(probabilities, paths, axis=1)
    reaches = (paths >= 0) & may_be[paths] & (scores >= np.array(calibration.thresholds))
    found: list[Suggestion | None] = [None] * len(probabilities)
    for row in np.flatnonzero(reaches.any(axis=1)).tolist():
        level = int(np.flatnonzero(reaches[row])[-1])
        found[row] = Suggestion(tree.paths[paths[row, level]], min(max(float(scores[row, level]), 0.0), 1.0), level + 1)
    rest = np.flatnonzero(~reaches.any(axis=1))
    for row, listed in zip(rest.tolist(), shortlists(tree, probabilities[rest], calibration), strict=True):
        if listed:
            parent = () if tree.leafs_only else common_prefix(listed.paths)
            found[row] = Suggestion(parent, listed.score, len(parent), listed.paths)
    return found


def why_none(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> str:
    """Return in words why `suggest` returns None for these arguments: the likeliest path, and what it lacks."""
    path = greedy_path(tree, probabilities)
    if tree.paths[path[0]] == NO_ANSWER:
        return "The model expects that annotators leave this control empty."
    if not calibration.suggests_paths:
        why = calibration.describe()
        return f"{why[0].upper()}{why[1:]}. The likeliest path is {_with_probability(tree, path[-1], probabilities)}."
    for node in path:
        threshold = calibration.thresholds[int(tree.levels[node]) - 1]
        if math.isfinite(threshold) and (tree.is_leaf[node] or not tree.leafs_only):
            shown = _with_probability(tree, node, probabilities)
            return f"The model is not sure enough: the likeliest is {shown}, and {threshold:.2f} is needed."
    shown = _with_probability(tree, path[-1], probabilities)
    return f"The likeliest path is {shown}, and at its level nothing can be promised."


def _with_probability(tree: Tree, node: int, probabilities: FloatArray) -> str:
    return f"{format_path(tree.paths[node])} with a probability of {probabilities[node]:.2f}"


def vote(tree: Tree, neighbours: Sequence[tuple[TaxonomyPath, float]], *, min_share: float = 0.5) -> Suggestion | None:
    """Return the deepest node that labelled look-alikes agree on, or None; for projects without a model.

    `neighbours` are pairs of an accepted label and its similarity, which is the weight of the vote; negative
    similarities have weight 0. From level 1 down, the child with the largest weight wins as long as its share of *all*
    weight reaches `min_share`; in a tie the parent is the result. A path that is not in the tree votes for its known
    prefix. For a `leafs_only` control the result is a leaf or None.
    """
    weights = np.zeros(len(tree))
    total = 0.0
    for path, similarity in neighbours:
        weight = max(float(similarity), 0.0)
        total += weight
        for prefix in prefixes(tree.known_prefix(path)):
            weights[tree.index[prefix]] += weight
    if not total > 0:
        return None
    found: int | None = None
    children = tree.children(-1)
    while len(children):
        shares = weights[children] / total
        best = int(np.argmax(shares))
        tied = np.count_nonzero(np.isclose(shares, shares[best])) > 1
        # The tolerance covers rounding errors of the sums.
        if tied or shares[best] < min_share - 1e-9:
            break
        found = int(children[best])
        children = tree.children(found)
    if found is None or (tree.leafs_only and not tree.is_leaf[found]):
        return None
    score = min(float(weights[found]) / total, 1.0)
    return Suggestion(tree.paths[found], score, int(tree.levels[found]))
