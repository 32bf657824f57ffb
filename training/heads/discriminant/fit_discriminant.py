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
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Array, Discriminant, features, node_probabilities
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets, check_finite
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, Model, fit
from taxonomist.training.heads.discriminant.held_out import (
    Folded,
    Predictions,
    fit_temperature,
    folds_of,
    held_out_predictions,
    predictions,
)

__all__ = [
    "DiscriminantOptions",
    "FittedDiscriminant",
    "Learning",
    "ProductFeatures",
    "fit_discriminant",
    "learning_of",
]


@dataclass(frozen=True)
class ProductFeatures:
    """What is known of the products of n images: `means` (n, d), the mean features of all images of the product,
    `sizes` (n,), how many these are, and the level down to which images of a product have the same label."""

    means: Array
    sizes: npt.NDArray[np.int64]
    depth: int

    @classmethod
    def of(cls, embeddings: Array, products: Sequence[str], depth: int) -> ProductFeatures:
        """Return those of images of which no others are known."""
        names, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
        sizes = np.bincount(owners, minlength=len(names))
        means = np.zeros((len(names), embeddings.shape[1]), np.float32)
        np.add.at(means, owners, features(embeddings))
        return cls((means / np.maximum(sizes, 1)[:, None])[owners], sizes[owners], depth)


@dataclass(frozen=True)
class FittedDiscriminant:
    """A discriminant, and what it predicts for its own images without their products.

    `held_out` (n, nodes) is P(path) of every node: for each image by a model that learned from other products only.
    """

    weights: Discriminant
    temperature: float
    prior_weight: float
    held_out: Array


@dataclass(frozen=True)
class Learning:
    """What a discriminant of the tree learns from, and the temperature and the prior weight that fit it.

    `judged` are the images with labels of their own, and `held_out` what models without their products predict for
    them. `learned` is what the models learn from: the same images, or what these say about their products.
    """

    tree: Tree
    options: DiscriminantOptions
    judged: Folded
    learned: Folded
    held_out: Sequence[Predictions]
    temperature: float
    prior_weight: float

    def model(self) -> Model:
        """Return the model of all that is learned."""
        return fit(self.learned.data.whole, self.learned.data, self.options)

    def prior(self, model: Model) -> Array:
        """Return the part (classes,) of the bias of a discriminant that is no evidence."""
        prior: Array = (self.prior_weight * model.log_prior).astype(np.float32)
        return prior

    def fitted(self) -> FittedDiscriminant:
        """Return the discriminant, and what it predicts for the judged images without their products."""
        model = self.model()
        weights = Discriminant(
            (model.weight / self.temperature).astype(np.float32),
            (model.bias / self.temperature).astype(np.float32) + self.prior(model),
            self.judged.data.nodes[model.classes],
            np.asarray(self.tree.parents, np.int64),
        )
        return FittedDiscriminant(weights, self.temperature, self.prior_weight, self.probabilities(self.held_out))

    def probabilities(self, held_out: Sequence[Predictions]) -> Array:
        """Return P(path) of every node (n, nodes) for the judged images; 0 for one that is not among `held_out`."""
        parents = np.asarray(self.tree.parents, np.int64)
        found = np.zeros((len(self.judged.folds), len(self.tree)), np.float32)
        for fold in held_out:
            scores = fold.scores(self.temperature, self.prior_weight)
            found[fold.rows] = node_probabilities(scores, self.judged.data.nodes[fold.classes], parents)
        return found


def fit_discriminant(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
    shared: ProductFeatures | None = None,
) -> FittedDiscriminant:
    """Fit a discriminant to embeddings (n, d) of images and the nodes at which their labels stop.

    `stops` (n, nodes) has the weight of each node, with the sum 1 for each image: several labels share it. A label that
    stops above other labels says nothing about the levels below: it is spread over the classes below it as the model
    sees the image (one step of expectation maximisation). Images of one of the `products` are held out together.

    With `shared`, a label counts for all images of its product, as deep as products are pure. Temperature and held-out
    predictions are those of images with labels of their own.

    Raises TrainingError without a label, and for an embedding that is not finite.
    """
    return learning_of(embeddings, stops, products, tree, options, shared).fitted()


def learning_of(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
    shared: ProductFeatures | None = None,
) -> Learning:
    """Return what a discriminant learns from, with its temperature; arguments and errors are `fit_discriminant`'s."""
    options = options or DiscriminantOptions()
    if not stops.any():
        raise TrainingError(f"There is no label of {tree.control} to learn from.")
    check_finite(embeddings)
    data = LabelledFeatures.of(embeddings, stops, tree)
    judged = learned = Folded(data, folds_of(products, options))
    if shared and shared.depth >= 1 and shared.sizes.max() > 1:
        _, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
        carried, rows = data.carried(shared.means, owners, shared.depth, options.carried)
        learned = Folded(carried, judged.folds[rows])
    held_out = list(held_out_predictions(learned, judged, options))
    temperature, prior_weight = fit_temperature(data, held_out, options)
    if len(inner := learned.data.inner_rows):
        seen = predictions(fit(learned.data.whole, learned.data, options), learned.data, inner)
        spread = learned.data.spread(inner, seen.classes, seen.scores(temperature, prior_weight))
        learned = Folded(spread, learned.folds)
        held_out = list(held_out_predictions(learned, judged, options))
        temperature, prior_weight = fit_temperature(data, held_out, options)
    return Learning(tree, options, judged, learned, held_out, temperature, prior_weight)
