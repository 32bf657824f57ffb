"""Chooses whether a discriminant learns from embeddings as they are or in the space that products have taught."""

from __future__ import annotations

import math
from collections.abc import Sequence

from taxonomist.inference.heads.features import Array
from taxonomist.storage.registry.manifests import SpaceFigures
from taxonomist.taxonomy.tree import Tree
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
    """Return what a discriminant learns, in the space only if labels are likelier there for products it has not seen.

    Both are compared by `Learning.log_loss`. Arguments and errors are those of `learning_of`, but `shared` has first
    what is known of the products without a space, then in each space of `taught`. Without `taught`, or a label that can
    be judged, there are no figures.
    """
    plain = learning_of(embeddings, stops, products, tree, options, shared[:1])
    if taught is None or (loss := plain.log_loss()) is None:
        return plain, None
    inside = learning_of(embeddings, stops, products, tree, options, shared[1:], taught)
    loss_inside = inside.log_loss()
    if loss_inside is None:
        loss_inside = math.inf
    served = loss_inside < loss
    figures = SpaceFigures(
        served=served,
        products=taught.products,
        images=taught.images,
        dimension=taught.space.matrix.shape[1],
        log_loss=(loss, loss_inside),
    )
    return inside if served else plain, figures
