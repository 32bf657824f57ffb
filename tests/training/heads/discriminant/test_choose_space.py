"""A discriminant in the space that products have taught: without a product, by hand, and where labels speak for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from taxonomist.inference.heads.features import features
from taxonomist.taxonomy.groups.projection import ProductScatter
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.discriminant.choose_space import better_learning
from taxonomist.training.heads.discriminant.fit_discriminant import (
    DiscriminantOptions,
    Learning,
    fit_discriminant,
    learning_of,
)
from taxonomist.training.product_space import TaughtSpace, scatter_of

TREE = Tree.from_paths("kind", [("a", "x"), ("a", "y"), ("b",), ("c",)])
IMAGES, PRODUCTS, DIMENSION = 3, 24, 40
NAMES = [f"p{product}" for product in range(PRODUCTS) for _ in range(IMAGES)]
FIRST = slice(4)
EACH = DiscriminantOptions(folds=PRODUCTS)
Array = npt.NDArray[np.float32]


def made(products: int = PRODUCTS, seed: int = 1) -> tuple[Array, Array]:
    """Return embeddings and the nodes of their labels. Products differ in the last numbers, their images by noise."""
    random = np.random.default_rng(seed)
    x = np.zeros((products, DIMENSION))
    x[:, 36:] = 1.5 * random.normal(size=(products, 4))
    chosen = np.flatnonzero(TREE.is_leaf)[x[:, 36:].argmax(axis=1)]
    views = x.repeat(IMAGES, axis=0) + random.normal(0, 0.05, (products * IMAGES, DIMENSION))
    views[:, :30] += random.normal(0, 1, (len(views), 30))
    stops = np.zeros((len(views), len(TREE)), np.float32)
    stops[np.arange(len(views)), chosen.repeat(IMAGES)] = 1
    return (np.sign(views) * views**2).astype(np.float32), stops


def space_of(directions: slice = FIRST) -> TaughtSpace:
    """Return some of the directions that 200 other products teach."""
    x, _ = made(products=200, seed=2)
    taught = TaughtSpace.of(scatter_of([(x, [str(row // IMAGES) for row in range(len(x))])]))
    assert taught is not None
    matrix = np.ascontiguousarray(taught.space.matrix[:, directions])
    return replace(taught, space=replace(taught.space, matrix=matrix))


def learn(x: Array, stops: Array, taught: TaughtSpace | None) -> Learning:
    return learning_of(x, stops, NAMES, TREE, EACH, taught=taught)


def test_in_a_space_it_is_the_discriminant_of_the_features_there() -> None:
    x, stops = made()
    taught = space_of()
    inside = features(x, taught.space)
    fitted = fit_discriminant(x, stops, NAMES, TREE, taught=taught)
    alone = fit_discriminant(np.sign(inside) * inside**2, stops, NAMES, TREE)
    np.testing.assert_allclose(fitted.held_out, alone.held_out, rtol=1e-3, atol=1e-5)
    found = fitted.weights.probabilities(x)
    np.testing.assert_allclose(found, alone.weights.probabilities(np.sign(inside) * inside**2), rtol=1e-3, atol=1e-5)


def test_the_log_loss_is_that_of_models_that_were_fitted_without_the_product() -> None:
    x, stops = made()
    taught = space_of()
    learning = learn(x, stops, taught)
    losses = []
    for start in range(0, len(x), IMAGES):
        rest = np.r_[:start, start + IMAGES : len(x)]
        names = [NAMES[row] for row in rest]
        model = learning_of(x[rest], stops[rest], names, TREE, DiscriminantOptions(folds=2), taught=taught)
        fitted = model.model()
        scores = fitted.likelihoods(features(x[start : start + IMAGES], taught.space)) / learning.temperature
        scores = scores + learning.prior_weight * fitted.log_prior
        likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        nodes = model.whole.judged.data.nodes[fitted.classes].tolist()
        own = stops[start : start + IMAGES].argmax(axis=1).tolist()
        losses += [-np.log(max(row[nodes.index(node)], 1e-4)) for row, node in zip(likely, own, strict=True)]
    assert learning.log_losses() == pytest.approx(losses, rel=1e-2)


def test_a_label_that_no_other_product_has_is_not_judged() -> None:
    x, stops = made()
    stops[:IMAGES] = np.eye(len(TREE), dtype=np.float32)[TREE.index["c",]]
    stops[IMAGES:, TREE.index["c",]] = 0
    stops[IMAGES:, TREE.index["b",]] += 1 - stops[IMAGES:].sum(axis=1)
    learning = learn(x, stops, None)
    losses = learning.log_losses()
    assert np.isnan(losses[:IMAGES]).all()
    likely = (learning.probabilities(learning.held_out) * stops).sum(axis=1)[IMAGES:]
    assert losses[IMAGES:] == pytest.approx(-np.log(np.maximum(likely, 1e-4)), rel=1e-4)
    learned, figures = better_learning(x[:IMAGES], stops[:IMAGES], NAMES[:IMAGES], TREE, taught=space_of())
    assert learned.space is None
    assert figures is None


def test_labels_choose_the_space_where_it_leaves_out_noise() -> None:
    x, stops = made()
    taught = space_of()
    learned, figures = better_learning(x, stops, NAMES, TREE, EACH, taught=taught)
    assert figures is not None
    assert figures.served
    assert learned.space is taught.space
    assert figures.log_loss[1] < figures.log_loss[0] - 0.1
    assert (figures.products, figures.images, figures.dimension) == (200, 200 * IMAGES, 4)


def test_labels_refuse_a_space_that_leaves_out_what_they_say() -> None:
    x, stops = made()
    learned, figures = better_learning(x, stops, NAMES, TREE, EACH, taught=space_of(slice(-4, None)))
    assert learned.space is None
    assert figures is not None
    assert not figures.served
    assert figures.log_loss[1] >= figures.log_loss[0]


def test_without_a_space_nothing_is_compared() -> None:
    x, stops = made()
    learned, figures = better_learning(x, stops, NAMES, TREE, EACH)
    assert (learned.space, figures) == (None, None)


def test_a_product_is_predicted_as_if_its_share_were_unknown() -> None:
    x, stops = made(products=60)
    names = [f"p{row // IMAGES}" for row in range(len(x))]
    shares = {name: int(name[1:]) % 3 for name in names}
    own = np.array([shares[name] for name in names])

    def scatter(rows: npt.NDArray[np.bool_]) -> ProductScatter | None:
        return scatter_of([(x[rows], [name for name, is_chosen in zip(names, rows, strict=True) if is_chosen])])

    everything = np.ones(len(x), np.bool_)
    taught = TaughtSpace.of(scatter(everything), (scatter(own == share) for share in range(3)), shares)
    assert taught is not None
    learning = learning_of(x, stops, names, TREE, taught=taught)
    held_out = learning.probabilities(learning.held_out)
    for share in range(3):
        known, unknown = own != share, own == share
        rest = TaughtSpace.of(scatter(known))
        assert rest is not None
        others = [name for name in names if shares[name] != share]
        alone = learning_of(x[known], stops[known], others, TREE, taught=rest)
        model = alone.model()
        scores = model.likelihoods(features(x[unknown], rest.space)) / learning.temperature
        scores = scores + learning.prior_weight * model.log_prior
        likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        classes = alone.whole.judged.data.nodes[model.classes]
        np.testing.assert_allclose(held_out[unknown][:, classes], likely, rtol=1e-3, atol=1e-5)
