"""Turns one logit per node into the probabilities of paths.

Every group of siblings has its own softmax, so a logit stands for the probability of a node *given its parent*. The
probability of a path is the product of these from level 1 down.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.tree import Tree

FloatArray = NDArray[np.floating]

_BLOCK = 1 << 20  # numbers in memory at once, of images and nodes


def group_log_softmax(logits: FloatArray, tree: Tree) -> FloatArray:
    """Return log P(node | parent), shape (n, nodes), for logits of shape (n, nodes).

    The result is float64 for float64 logits, else float32. Raises ValueError when the last axis is not one logit per
    node of the tree.
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
        result[:, nodes] += result[:, tree.parents[nodes]]  # the sums of the parents are complete
    return result


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of rows that cover all of them, each with few enough for an array (rows, columns) of 4 MB."""
    size = max(1, _BLOCK // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def greedy_path(tree: Tree, probabilities: FloatArray) -> list[int]:
    """Return the nodes from level 1 to a leaf, each the most probable child; `probabilities` has shape (nodes,)."""
    path = []
    children = tree.children(-1)
    while len(children):
        node = int(children[np.argmax(probabilities[children])])
        path.append(node)
        children = tree.children(node)
    return path


def greedy_paths(tree: Tree, probabilities: FloatArray) -> NDArray[np.int64]:
    """Return the nodes of `greedy_path` for each row, shape (n, levels), -1 below a leaf; `probabilities` has shape
    (n, nodes)."""
    found = np.full((len(probabilities), tree.depth), -1, np.int64)
    groups: dict[int, NDArray[np.int64]] = {-1: np.arange(len(probabilities))}  # the rows of each node
    for level in range(tree.depth):
        below: dict[int, NDArray[np.int64]] = {}
        for node, rows in groups.items():
            if len(children := tree.children(node)):
                found[rows, level] = best = children[np.argmax(probabilities[np.ix_(rows, children)], axis=1)]
                below |= {child: rows[best == child] for child in np.unique(best).tolist()}
        groups = below
    return found


def _as_rows(logits: FloatArray, tree: Tree) -> FloatArray:
    values = np.asarray(logits)
    if values.ndim != 2 or values.shape[1] != len(tree):
        raise ValueError(f"expected logits of shape (n, {len(tree)}), got {values.shape}")
    return values if values.dtype == np.float64 else values.astype(np.float32)
