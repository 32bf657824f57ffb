"""The temperature that makes the probabilities of a model match how often it is right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

__all__ = ["Truths", "fit_temperature"]

Truths = Sequence[Sequence[TaxonomyPath]]
"""The accepted labels of each image; empty for an image without one."""

# A held-out part without a mistake is fitted best by a temperature of 0, which would make every score 1.
COLDEST, HOTTEST = 0.25, 20.0


def fit_temperature(tree: Tree, logits: FloatArray, truths: Truths) -> float:
    """Return the temperature, 0.25 to 20, that minimises the negative log-likelihood of the levels that truths name.

    Each truth contributes one softmax per level, among the siblings of the node that it names; several truths of an
    image share its weight. The likelihood is convex in 1 / T, so its slope has one root, which is found by bisection.
    1.0 when nothing is named. Source: Guo et al., On calibration of modern neural networks (2017), section 4.2.
    """
    values, starts, chosen, weights = _softmaxes(tree, logits, truths)
    if not len(starts):
        return 1.0
    sizes = np.diff(np.append(starts, len(values)))

    def slope(inverse: float) -> float:
        """d NLL / d (1 / T): the expected logit under the softmax less the chosen one."""
        scaled = values * inverse
        likelihood = np.exp(scaled - np.repeat(np.maximum.reduceat(scaled, starts), sizes))
        expected = np.add.reduceat(likelihood * values, starts) / np.add.reduceat(likelihood, starts)
        return float(np.sum(weights * (expected - chosen)))

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        # flat or rising from the start: no spread at all helps (or all groups have one node, and nothing matters)
        return 1.0 if slope(high) <= 0 else HOTTEST
    if slope(high) <= 0:
        return COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def _softmaxes(
    tree: Tree, logits: FloatArray, truths: Truths
) -> tuple[FloatArray, NDArray[np.intp], FloatArray, FloatArray]:
    """Return the logits of all named groups side by side, where each starts, its chosen logit and its weight."""
    values: list[FloatArray] = []
    chosen: list[float] = []
    weights: list[float] = []
    for row, paths in zip(np.asarray(logits, dtype=np.float64), truths, strict=True):
        for path in paths:
            for node in tree.ancestors(tree.index[path]):
                values.append(row[tree.children(int(tree.parents[node]))])
                chosen.append(float(row[node]))
                weights.append(1 / len(paths))
    starts = np.cumsum([0, *map(len, values)])[:-1].astype(np.intp)
    joined = np.concatenate(values) if values else np.empty(0)
    return joined, starts, np.array(chosen), np.array(weights)
