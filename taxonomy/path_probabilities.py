"""From one logit per node to probabilities of paths.

Every group of siblings is a softmax of its own, so a logit says how likely a node is *given its parent*; the
probability of a path is the product down the tree.
"""

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.tree import Tree

FloatArray = NDArray[np.floating]


def group_log_softmax(logits: FloatArray, tree: Tree) -> FloatArray:
    """Return log P(node | parent), shape (n, nodes), for logits of shape (n, nodes). Keeps float64, else float32.

    Raises ValueError when the last axis is not one logit per node of the tree.
    """
    values = _as_rows(logits, tree)
    sizes = [len(group) for group in tree.groups]
    order = np.concatenate(tree.groups)
    starts = np.cumsum([0, *sizes[:-1]])
    grouped = values[:, order]  # (n, nodes), siblings side by side
    highest = np.maximum.reduceat(grouped, starts, axis=1)  # (n, groups)
    shifted = grouped - np.repeat(highest, sizes, axis=1)
    log_sums = np.log(np.add.reduceat(np.exp(shifted), starts, axis=1))  # (n, groups)
    result = np.empty_like(values)
    result[:, order] = shifted - np.repeat(log_sums, sizes, axis=1)
    return result


def path_log_probabilities(logits: FloatArray, tree: Tree) -> FloatArray:
    """Return log P(path) of every node, shape (n, nodes): the sum of log P(node | parent) from level 1 down.

    Raises ValueError when the last axis is not one logit per node of the tree.
    """
    result = group_log_softmax(logits, tree)
    for level in range(2, tree.depth + 1):
        nodes = np.flatnonzero(tree.levels == level)
        result[:, nodes] += result[:, tree.parents[nodes]]  # the parents' own sums are complete by now
    return result


def greedy_path(tree: Tree, probabilities: FloatArray) -> list[int]:
    """Return the nodes met by always taking the likeliest child, from level 1 to a leaf; probabilities: (nodes,)."""
    way = []
    children = tree.children(-1)
    while len(children):
        node = int(children[np.argmax(probabilities[children])])
        way.append(node)
        children = tree.children(node)
    return way


def _as_rows(logits: FloatArray, tree: Tree) -> FloatArray:
    values = np.asarray(logits)
    if values.ndim != 2 or values.shape[1] != len(tree):
        raise ValueError(f"expected logits of shape (n, {len(tree)}), got {values.shape}")
    return values if values.dtype == np.float64 else values.astype(np.float32)
