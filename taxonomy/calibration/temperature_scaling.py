"""Temperature scaling: divides the logits so that the probabilities of a model match how often it is right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

__all__ = ["Truths", "fit_temperature"]

Truths = Sequence[Sequence[TaxonomyPath]]
"""The accepted labels of each image; empty for an image without one."""

# Held-out images without a mistake are fitted best by a temperature of 0, which would make every probability 1.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 20.0


def fit_temperature(tree: Tree, logits: FloatArray, truths: Truths) -> float:
    """Return the temperature, 0.25 to 20, that minimises the negative log-likelihood of the labels.

    `logits` has shape (n, nodes); `truths` holds the accepted labels of the n images. Each label contributes one
    softmax per level, over the siblings of the node that it names; several labels of one image share its weight. The
    negative log-likelihood is convex in 1 / T, so its slope has one root, which is found by bisection. Without labels
    the temperature is 1.

    Source: Guo et al., On calibration of modern neural networks (2017), section 4.2, https://arxiv.org/abs/1706.04599
    """
    values, starts, chosen, weights = _softmaxes(tree, logits, truths)
    if not len(starts):
        return 1.0
    sizes = np.diff(np.append(starts, len(values)))

    def slope(inverse: float) -> float:
        """Return d NLL / d (1 / T): the expected logit under the softmax minus the logit of the label."""
        scaled = values * inverse
        likelihood = np.exp(scaled - np.repeat(np.maximum.reduceat(scaled, starts), sizes))
        expected = np.add.reduceat(likelihood * values, starts) / np.add.reduceat(likelihood, starts)
        return float(np.sum(weights * (expected - chosen)))

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        # The slope is flat or rising from the start: either no temperature matters (all groups have one node), or the
        # flattest probabilities fit best.
        return 1.0 if slope(high) <= 0 else MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def _softmaxes(
    tree: Tree, logits: FloatArray, truths: Truths
) -> tuple[FloatArray, NDArray[np.intp], FloatArray, FloatArray]:
    """Return the logits of all named groups, one group after another, their starts, the labels' logits and weights."""
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
