"""Linear discriminant analysis on a tree, in closed form: a head that needs no epochs and no validation part.

Each class is a normal distribution around its mean; all share one covariance, which is shrunk towards a multiple of the
identity (Friedman 1989, Regularized discriminant analysis, https://doi.org/10.1080/01621459.1989.10478752). The mean of
a node is shrunk towards that of its parent, so that a class of few images is near its siblings. The classes are the
nodes below which no label goes.

Normal distributions are too sure of themselves on embeddings, so log P(class) = likelihood / temperature + weight * log
prior, with both numbers fitted on predictions for products that the model did not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.inference.heads.discriminant_weights import Array, Discriminant, node_probabilities
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets, check_finite
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, fit
from taxonomist.training.heads.discriminant.held_out import fit_temperature, folds_of, held_out_predictions, predictions

__all__ = ["DiscriminantOptions", "FittedDiscriminant", "fit_discriminant"]


@dataclass(frozen=True)
class FittedDiscriminant:
    """A discriminant, and what it predicts for its own images without their products.

    `held_out` (n, nodes) is P(path) of every node: for each image by a model that learned from other products only.
    """

    weights: Discriminant
    temperature: float
    prior_weight: float
    held_out: Array


def fit_discriminant(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
) -> FittedDiscriminant:
    """Fit a discriminant to embeddings (n, d) of images and the nodes at which their labels stop.

    `stops` (n, nodes) has the weight of each node, with the sum 1 for each image: several labels share it. A label that
    stops above other labels says nothing about the levels below: it is spread over the classes below it as the model
    sees the image (one step of expectation maximisation). Images of one of the `products` are held out together.

    Raises TrainingError without a label, and for an embedding that is not finite.
    """
    options = options or DiscriminantOptions()
    if not stops.any():
        raise TrainingError(f"There is no label of {tree.control} to learn from.")
    check_finite(embeddings)
    data = LabelledFeatures.of(embeddings, stops, tree)
    folds = folds_of(products, options)
    held_out = list(held_out_predictions(data, folds, options))
    temperature, prior_weight = fit_temperature(data, held_out, options)
    if len(inner := data.inner_rows):
        seen = predictions(fit(data.whole, data, options), data, inner)
        data = data.spread(inner, seen.classes, seen.scores(temperature, prior_weight))
        held_out = list(held_out_predictions(data, folds, options))
        temperature, prior_weight = fit_temperature(data, held_out, options)
    model = fit(data.whole, data, options)
    parents = np.asarray(tree.parents, np.int64)
    unseen = np.zeros((len(data.x), len(tree)), np.float32)
    for fold in held_out:
        scores = fold.scores(temperature, prior_weight)
        unseen[fold.rows] = node_probabilities(scores, data.nodes[fold.classes], parents)
    return FittedDiscriminant(
        Discriminant(
            (model.weight / temperature).astype(np.float32),
            (model.bias / temperature + prior_weight * model.log_prior).astype(np.float32),
            data.nodes[model.classes],
            parents,
        ),
        temperature,
        prior_weight,
        unseen,
    )
