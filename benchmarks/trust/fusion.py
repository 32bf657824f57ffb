"""One prediction for the images of a group, which taxonomist does not make.

How much evidence they are together, and how deep it reaches.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from taxonomist.inference.heads.discriminant_weights import Array, Discriminant, node_probabilities
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.discriminant.fit_discriminant import Learning, ProductFeatures
from taxonomist.training.heads.discriminant.held_out import Folded, held_out_predictions

CORRELATION = 0.5
"""Of the images of a group, in the evidence that they are together."""


def fused_held_out(learning: Learning, shared: ProductFeatures) -> Array:
    """Return P(path) (n, nodes) of the judged images with the others of their groups, by models without the group."""
    means = Folded(replace(learning.judged.data, x=shared.means), learning.judged.folds)
    worth = effective_images(shared.sizes, CORRELATION)
    together = [
        replace(fold, likelihoods=(fold.likelihoods * worth[fold.rows, None]).astype(np.float32))
        for fold in held_out_predictions(learning.learned, means, learning.options)
    ]
    own = learning.probabilities(learning.held_out)
    return grafted(learning.tree, learning.probabilities(together), own, shared.depth)


def fused(head: Discriminant, prior: Array, tree: Tree, embeddings: Array, shared: ProductFeatures) -> Array:
    """Return P(path) (n, nodes) of images with embeddings (n, d) together with the others of their groups, `shared`.

    `prior` (classes,) is the part of the head's bias that is no evidence. The log-likelihoods of the classes are linear
    in the features, so those of the mean are the mean of those of the images.
    """
    evidence = shared.means @ head.weight.T + (head.bias - prior)
    evidence *= effective_images(shared.sizes, CORRELATION)[:, None].astype(np.float32)
    together = node_probabilities(evidence + prior, head.nodes, head.parents)
    return grafted(tree, together, head.probabilities(embeddings), shared.depth)


def effective_images(sizes: NDArray[np.int64], correlation: float) -> NDArray[np.float64]:
    """Return how many independent images those of groups are worth, shape (n,), for groups of `sizes` (n,) images.

    It is n / (1 + (n - 1) * correlation), where `correlation` (0 to 1) is that of the images within a group (Kish 1965,
    Survey sampling, 5.4). With 0 each image is new evidence, with 1 all of them are worth one.

    >>> effective_images(np.array([1, 5]), 0.25).tolist()
    [1.0, 2.5]
    """
    counts = np.asarray(sizes, np.float64)
    worth: NDArray[np.float64] = counts / (1 + (counts - 1) * correlation)
    return worth


def grafted(tree: Tree, fused: FloatArray, own: FloatArray, depth: int) -> FloatArray:
    """Return P(path) (n, nodes): down to level `depth` as in `fused`, below it divided as in `own`, both (n, nodes).

    So what an image shares with its group comes from the group, and what it need not share from the image alone. Where
    `own` gives a node of level `depth` no probability, what is below it is divided as in `fused`.
    """
    result = np.array(fused)
    if depth < 1:
        return np.array(own)
    anchors = np.flatnonzero(tree.levels == depth)
    anchor = np.full(len(tree), -1, np.int64)
    anchor[anchors] = anchors
    for level in range(depth + 1, tree.depth + 1):
        nodes = np.flatnonzero(tree.levels == level)
        anchor[nodes] = anchor[tree.parents[nodes]]
        above = own[:, anchor[nodes]]
        shares = np.divide(own[:, nodes], above, out=np.zeros_like(above), where=above > 0)
        result[:, nodes] = np.where(above > 0, fused[:, anchor[nodes]] * shares, fused[:, nodes])
    return result
