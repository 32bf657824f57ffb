"""Chooses whether a discriminant learns from embeddings as they are or in the space that products have taught."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taxonomist.inference.heads.features import Array
from taxonomist.storage.registry.manifests import SpaceFigures
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.clear_gain import is_clear_gain, mean_by_product
from taxonomist.training.heads.data.targets import Targets
from taxonomist.training.heads.discriminant.fit_discriminant import (
    DiscriminantOptions,
    Learning,
    ProductFeatures,
    learning_of,
)
from taxonomist.training.product_space import TaughtSpace


def better_learning(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
    shared: Sequence[ProductFeatures] = (),
    taught: TaughtSpace | None = None,
) -> tuple[Learning, SpaceFigures | None]:
    """Return what a discriminant learns from, in the space only if labels are likelier there for unseen products.

    Both are compared by `Learning.log_losses`, each product counting once: the labels are likelier by more than chance
    would explain. Arguments and errors are those of `learning_of`, but `shared` has first what is known of the products
    without a space, then in each space of `taught`. Without `taught`, or a label that both can judge, there are no
    figures.
    """
    plain = learning_of(embeddings, stops, products, tree, options, shared[:1])
    if taught is None:
        return plain, None
    inside = learning_of(embeddings, stops, products, tree, options, shared[1:], taught)
    losses = plain.log_losses(), inside.log_losses()
    judged = np.flatnonzero(np.isfinite(losses[0]) & np.isfinite(losses[1]))
    if not len(judged):
        return plain, None
    gains = mean_by_product((losses[0] - losses[1])[judged], [products[row] for row in judged])
    served = is_clear_gain(gains)
    figures = SpaceFigures(
        served=served,
        products=taught.products,
        images=taught.images,
        dimension=taught.space.matrix.shape[1],
        log_loss=(float(losses[0][judged].mean()), float(losses[1][judged].mean())),
    )
    return inside if served else plain, figures
