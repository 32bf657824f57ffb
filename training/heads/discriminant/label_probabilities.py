"""How likely each label of an image is for models that have not learned from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from taxonomist.inference.heads.features import Array
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets
from taxonomist.training.heads.discriminant.fit_discriminant import fit_discriminant

_FLOOR = 1e-3
"""Added to probabilities before their logarithms are averaged: a very small one does not outweigh the other model."""


def label_probabilities(
    embeddings: Array,
    stops: Targets,
    products: Sequence[Hashable],
    tree: Tree,
    on_step: Callable[[float], None] = lambda _: None,
) -> Array:
    """Return how likely every node is for every image, shape (n, nodes), 0 to 1, by models without it.

    The arguments are those of `fit_discriminant`. One model has learned from no image of the product, so it notices a
    product whose images are all labelled wrong. Another has learned from other views of the product, so it notices a
    single wrong label best. The result is the geometric mean of their probabilities, and 0 where the first one does not
    know the node. `on_step` is called with the share that is done. Raises what `fit_discriminant` does.
    """
    on_step(0.0)
    without_product = fit_discriminant(embeddings, stops, [str(product) for product in products], tree).held_out
    on_step(0.5)
    without_image = fit_discriminant(embeddings, stops, [str(row) for row in range(len(stops))], tree).held_out
    on_step(1.0)
    return mean_probabilities(without_product, without_image)


def mean_probabilities(without_product: Array, without_image: Array) -> Array:
    """Return the geometric mean of two models' probabilities (n, nodes), 0 where the first does not know the node."""
    mean = np.sqrt((without_product + _FLOOR) * (without_image + _FLOOR)) - _FLOOR
    known: Array = np.where(without_product > 0, np.clip(mean, np.finfo(np.float32).tiny, 1), 0).astype(np.float32)
    return known
