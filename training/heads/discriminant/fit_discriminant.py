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
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Discriminant, node_probabilities
from taxonomist.inference.heads.features import Array, ProductProjection, features
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
from taxonomist.training.product_space import TaughtSpace

__all__ = [
    "DiscriminantOptions",
    "FittedDiscriminant",
    "Learning",
    "ProductFeatures",
    "View",
    "fit_discriminant",
    "learning_of",
]

_FLOOR = 1e-4  # of the probability of a label


@dataclass(frozen=True)
class ProductFeatures:
    """What is known of the products of n images: `means` (n, k), the mean features of all images of the product,
    `sizes` (n,), how many these are, and the level down to which images of a product have the same label."""

    means: Array
    sizes: npt.NDArray[np.int64]
    depth: int

    @classmethod
    def of(
        cls, embeddings: Array, products: Sequence[str], depth: int, space: ProductProjection | None = None
    ) -> ProductFeatures:
        """Return those of images of which no others are known."""
        names, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
        sizes = np.bincount(owners, minlength=len(names))
        own = features(embeddings, space)
        means = np.zeros((len(names), own.shape[1]), np.float32)
        np.add.at(means, owners, own)
        return cls((means / np.maximum(sizes, 1)[:, None])[owners], sizes[owners], depth)


@dataclass(frozen=True)
class View:
    """Images in one space: those with labels of their own (`judged`), and what models learn from, which is the same
    images, or what these say about their products (`learned`). `shared` is what is known of the products."""

    judged: Folded
    learned: Folded
    shared: ProductFeatures | None

    def model(self, options: DiscriminantOptions) -> Model:
        """Return the model of all that is learned."""
        return fit(self.learned.data.whole, self.learned.data, options)


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

    `whole` is what is learned in `space`. `held_out` is what models without their products predict for the labelled
    images; these models learn in the views `parts`. Where these are spaces that a share of the products has not taught,
    the share is the fold: a model knows no image that the space does not know, as in the whole space.
    """

    tree: Tree
    options: DiscriminantOptions
    whole: View
    parts: Sequence[View]
    held_out: Sequence[Predictions]
    temperature: float
    prior_weight: float
    space: ProductProjection | None = None

    def model(self) -> Model:
        """Return the model of all that is learned."""
        return self.whole.model(self.options)

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
            self.whole.judged.data.nodes[model.classes],
            np.asarray(self.tree.parents, np.int64),
            self.space,
        )
        return FittedDiscriminant(weights, self.temperature, self.prior_weight, self.probabilities(self.held_out))

    def log_losses(self) -> npt.NDArray[np.float64]:
        """Return the log-loss (n,) of the labels of each judged image, by a model without its product.

        A label counts if the model knows its node, with a probability of at least 0.0001. It is nan for an image
        without any.
        """
        data = self.whole.judged.data
        weights = np.zeros(data.labels.shape)
        for fold in self.held_out:
            weights[fold.rows] = data.labels[fold.rows] * data.ancestry(fold.classes).any(axis=1)
        likely = self.probabilities(self.held_out)[:, data.nodes]
        losses = -np.log(np.maximum(likely, _FLOOR).astype(np.float64))
        sums = weights.sum(axis=1)
        found: npt.NDArray[np.float64] = np.where(sums > 0, (losses * weights).sum(axis=1), np.nan)
        found /= np.where(sums > 0, sums, 1)
        return found

    def probabilities(self, held_out: Sequence[Predictions]) -> Array:
        """Return P(path) of every node (n, nodes) for the judged images; 0 for one that is not among `held_out`."""
        parents = np.asarray(self.tree.parents, np.int64)
        found = np.zeros((len(self.whole.judged.folds), len(self.tree)), np.float32)
        for fold in held_out:
            scores = fold.scores(self.temperature, self.prior_weight)
            found[fold.rows] = node_probabilities(scores, self.whole.judged.data.nodes[fold.classes], parents)
        return found


def fit_discriminant(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
    shared: Sequence[ProductFeatures] = (),
    taught: TaughtSpace | None = None,
) -> FittedDiscriminant:
    """Fit a discriminant to embeddings (n, d) of images and the nodes at which their labels stop.

    `stops` (n, nodes) has the weight of each node, with the sum 1 for each image: several labels share it. A label that
    stops above other labels says nothing about the levels below: it is spread over the classes below it as the model
    sees the image (one step of expectation maximisation). Images of one of the `products` are held out together.

    With `shared`, a label counts for all images of its product, as deep as products are pure. Temperature and held-out
    predictions are those of images with labels of their own. With `taught`, the features are those in its space, and
    those of held-out models in the spaces without a share of the products; `shared` has one for each of them.

    Raises TrainingError without a label, and for an embedding that is not finite.
    """
    return learning_of(embeddings, stops, products, tree, options, shared, taught).fitted()


def learning_of(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
    shared: Sequence[ProductFeatures] = (),
    taught: TaughtSpace | None = None,
) -> Learning:
    """Return what a discriminant learns from, with its temperature; arguments and errors are `fit_discriminant`'s."""
    options = options or DiscriminantOptions()
    if not stops.any():
        raise TrainingError(f"There is no label of {tree.control} to learn from.")
    check_finite(embeddings)
    folds = folds_of(products, options, *((taught.shares, len(taught.without)) if taught and taught.without else ()))
    spaces = taught.all if taught else (None,)
    views = [
        _view(LabelledFeatures.of(embeddings, stops, tree, space), folds, products, options, known)
        for space, known in zip_longest(spaces, shared)
    ]
    held_out, fit_of_labels = _held_out(views, options)
    if len(inner := views[0].learned.data.inner_rows):
        learned = views[0].learned.data
        seen = predictions(views[0].model(options), learned, inner)
        stops = learned.spread(inner, seen.classes, seen.scores(*fit_of_labels)).stops
        views = [
            replace(view, learned=Folded(replace(view.learned.data, stops=stops), view.learned.folds)) for view in views
        ]
        held_out, fit_of_labels = _held_out(views, options)
    space = taught.space if taught else None
    return Learning(tree, options, views[0], views[1:] or views, held_out, *fit_of_labels, space)


def _view(
    data: LabelledFeatures,
    folds: npt.NDArray[np.int64],
    products: Sequence[str],
    options: DiscriminantOptions,
    shared: ProductFeatures | None,
) -> View:
    judged = learned = Folded(data, folds)
    if shared and shared.depth >= 1 and shared.sizes.max() > 1:
        _, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
        carried, rows = data.carried(shared.means, owners, shared.depth, options.carried)
        learned = Folded(carried, folds[rows])
    return View(judged, learned, shared)


def _held_out(views: Sequence[View], options: DiscriminantOptions) -> tuple[list[Predictions], tuple[float, float]]:
    """Return what models without their products predict, with the temperature and the prior weight that fit it."""
    parts = [(view.learned, view.judged) for view in views[1:] or views]
    held_out = list(held_out_predictions(parts, options))
    return held_out, fit_temperature(views[0].judged.data, held_out, options)
