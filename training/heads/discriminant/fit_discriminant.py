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

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Array, Discriminant, Fusion, features, node_probabilities
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.groups import effective_images, grafted
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets, check_finite
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, fit
from taxonomist.training.heads.discriminant.held_out import (
    Predictions,
    fit_temperature,
    folds_of,
    held_out_models,
    predictions,
)

__all__ = ["DiscriminantOptions", "FittedDiscriminant", "ProductFeatures", "fit_discriminant"]


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
    `fused` is the same for each image together with the others of its product, None where products are not used.
    """

    weights: Discriminant
    temperature: float
    prior_weight: float
    held_out: Array
    fused: Array | None = None


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

    With `shared`, a label counts for all images of its product, as deep as products are pure, and predictions of these
    images are fused. Temperature and held-out predictions are those of images with labels of their own.

    Raises TrainingError without a label, and for an embedding that is not finite.
    """
    options = options or DiscriminantOptions()
    if not stops.any():
        raise TrainingError(f"There is no label of {tree.control} to learn from.")
    check_finite(embeddings)
    data = LabelledFeatures.of(embeddings, stops, tree)
    folds = folds_of(products, options)
    if shared is None or shared.depth < 1 or shared.sizes.max() < 2:
        shared = None
    judged = _Judged(data, folds, replace(data, x=shared.means) if shared else None)
    learned, learned_folds = data, folds
    if shared:
        _, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
        learned, rows = data.carried(shared.means, owners, shared.depth, options.carried)
        learned_folds = folds[rows]
    held_out, grouped = judged.predictions(learned, learned_folds, options)
    temperature, prior_weight = fit_temperature(data, held_out, options)
    if len(inner := learned.inner_rows):
        seen = predictions(fit(learned.whole, learned, options), learned, inner)
        learned = learned.spread(inner, seen.classes, seen.scores(temperature, prior_weight))
        held_out, grouped = judged.predictions(learned, learned_folds, options)
        temperature, prior_weight = fit_temperature(data, held_out, options)
    model = fit(learned.whole, learned, options)
    parents = np.asarray(tree.parents, np.int64)

    def unseen(folds: Sequence[Predictions]) -> Array:
        found = np.zeros((len(data.x), len(tree)), np.float32)
        for fold in folds:
            scores = fold.scores(temperature, prior_weight)
            found[fold.rows] = node_probabilities(scores, data.nodes[fold.classes], parents)
        return found

    prior = (prior_weight * model.log_prior).astype(np.float32)
    own, fused, fusion = unseen(held_out), None, None
    if shared:
        worth = effective_images(shared.sizes, options.correlation)
        fused = grafted(tree, unseen([fold.worth(worth[fold.rows]) for fold in grouped]), own, shared.depth)
        fusion = Fusion(shared.depth, options.correlation, prior)
    return FittedDiscriminant(
        Discriminant(
            (model.weight / temperature).astype(np.float32),
            (model.bias / temperature).astype(np.float32) + prior,
            data.nodes[model.classes],
            parents,
            fusion,
        ),
        temperature,
        prior_weight,
        own,
        fused,
    )


@dataclass(frozen=True)
class _Judged:
    """The images with labels of their own, their folds, and the mean features of their products in place of theirs."""

    data: LabelledFeatures
    folds: npt.NDArray[np.int64]
    grouped: LabelledFeatures | None

    def predictions(
        self, learned: LabelledFeatures, folds: npt.NDArray[np.int64], options: DiscriminantOptions
    ) -> tuple[list[Predictions], list[Predictions]]:
        """Return what models without their products predict for the images, and for their products' mean features."""
        held_out, grouped = [], []
        for fold, model in held_out_models(learned, folds, options):
            rows = np.flatnonzero(self.folds == fold)
            held_out.append(predictions(model, self.data, rows))
            if self.grouped:
                grouped.append(predictions(model, self.grouped, rows))
        return held_out, grouped
