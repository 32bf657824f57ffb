"""The discriminant beside scikit-learn's, models that were fitted anew without a product, and values by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from taxonomist.inference.heads.discriminant_weights import Discriminant, node_probabilities
from taxonomist.inference.heads.features import features
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.discriminant.closed_form import LabelledFeatures
from taxonomist.training.heads.discriminant.fit_discriminant import (
    DiscriminantOptions,
    FittedDiscriminant,
    ProductFeatures,
    fit_discriminant,
)

SOFAS, CHAIRS, LAMPS = ("seats", "sofas"), ("seats", "chairs"), ("lamps",)
TREE = Tree.from_paths("kind", [SOFAS, CHAIRS, LAMPS, ("seats", "stools"), ("rugs",)])
Array = npt.NDArray[np.float32]


def images(paths: Sequence[TaxonomyPath], *, dimension: int = 12, seed: int = 0, spread: float = 0.5) -> Array:
    """Return an embedding (n, d) around the mean of each image's path."""
    means = np.random.default_rng(99).normal(size=(len(TREE), dimension))
    noise = np.random.default_rng(seed).normal(size=(len(paths), dimension))
    return (means[[TREE.index[path] for path in paths]] + spread * noise).astype(np.float32)


def stops(labels: Sequence[Sequence[TaxonomyPath]]) -> Array:
    found = np.zeros((len(labels), len(TREE)), np.float32)
    for row, paths in enumerate(labels):
        for path in paths:
            found[row, TREE.index[path]] += 1 / len(paths)
    return found


def fit(x: Array, labels: Sequence[Sequence[TaxonomyPath]], **options: float) -> FittedDiscriminant:
    products = [f"product {number // 2}" for number in range(len(x))]
    return fit_discriminant(x, stops(labels), products, TREE, DiscriminantOptions(**options))  # type: ignore[arg-type]


def likely(discriminant: Discriminant, x: Array, path: TaxonomyPath) -> Array:
    return discriminant.probabilities(x)[:, TREE.index[path]]


def test_a_flat_tree_without_parents_is_scikit_learns() -> None:
    tree = Tree.from_paths("kind", [("a",), ("b",), ("c",)])
    random = np.random.default_rng(0)
    classes = np.array([0] * 30 + [1] * 20 + [2] * 10)
    x = (random.normal(size=(3, 8))[classes] + random.normal(size=(60, 8))).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[classes]
    options = DiscriminantOptions(shrinkage=0.3, parent_images=0.0)
    fitted = fit_discriminant(x, targets, [str(number) for number in range(60)], tree, options)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(features(x), classes)
    held = (random.normal(size=(3, 8))[classes] + random.normal(size=(60, 8))).astype(np.float32)
    likelihood = features(held) @ theirs.coef_.T + theirs.intercept_ - np.log(theirs.priors_)
    expected = np.exp(likelihood / fitted.temperature + fitted.prior_weight * np.log(theirs.priors_))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.weights.probabilities(held), expected, rtol=2e-3, atol=1e-5)


def test_unseen_images_are_recognised_down_to_the_deepest_label() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 20
    fitted = fit(images(paths), [[path] for path in paths])
    held = images([SOFAS, CHAIRS, LAMPS], seed=1)
    probabilities = fitted.weights.probabilities(held)
    assert probabilities[0, TREE.index[SOFAS]] > 0.8
    assert probabilities[1, TREE.index[CHAIRS]] > 0.8
    assert probabilities[2, TREE.index[LAMPS]] > 0.8
    # A node has the sum of what is below it, and 0 where nothing was learned.
    np.testing.assert_allclose(
        probabilities[:, TREE.index[("seats",)]],
        probabilities[:, TREE.index[SOFAS]] + probabilities[:, TREE.index[CHAIRS]],
        rtol=1e-5,
    )
    assert not probabilities[:, [TREE.index[("rugs",)], TREE.index[("seats", "stools")]]].any()


def test_an_image_is_predicted_by_models_that_never_saw_its_product() -> None:
    paths = [SOFAS, CHAIRS, LAMPS, SOFAS, LAMPS, CHAIRS] * 4
    x = images(paths, spread=1.5)
    labels = [[path] for path in paths]
    products = [str(number // 2) for number in range(len(x))]
    options = DiscriminantOptions(folds=len(set(products)))  # each product is a fold
    fitted = fit_discriminant(x, stops(labels), products, TREE, options)
    rest = [number for number, product in enumerate(products) if product != "3"]
    without = fit_discriminant(x[rest], stops(labels)[rest], [products[number] for number in rest], TREE, options)
    own = [number for number, product in enumerate(products) if product == "3"]
    counts = np.array([sum(paths[row] == TREE.paths[node] for row in rest) for node in without.weights.nodes])
    log_prior = np.log(counts / counts.sum())
    # Temperature and weight of the prior are fitted on all, so the scores are compared at the same ones.
    likelihood = features(x[own]) @ (without.weights.weight * without.temperature).T
    likelihood += without.temperature * (without.weights.bias - without.prior_weight * log_prior)
    scores = likelihood / fitted.temperature + fitted.prior_weight * log_prior
    expected = node_probabilities(scores, without.weights.nodes, without.weights.parents)
    np.testing.assert_allclose(fitted.held_out[own], expected, rtol=1e-3, atol=1e-5)


def test_labels_that_stop_above_others_teach_the_classes_below() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 20
    x = images(paths, spread=0.8)
    few = [[path] if number < 9 else [path[:1]] for number, path in enumerate(paths)]
    held_paths = [SOFAS, CHAIRS] * 50
    held = images(held_paths, seed=1, spread=0.8)

    def right(fitted: FittedDiscriminant) -> float:
        probabilities = fitted.weights.probabilities(held)
        return float(np.mean([row[TREE.index[path]] for row, path in zip(probabilities, held_paths, strict=True)]))

    whole = fit(x, few)
    alone = fit(x[:9], few[:9])
    assert right(whole) > right(alone) + 0.02
    assert {TREE.paths[node] for node in whole.weights.nodes} == {SOFAS, CHAIRS, LAMPS}


def test_two_labels_share_an_image() -> None:
    paths = [SOFAS, LAMPS] * 20
    labels: list[list[TaxonomyPath]] = [[path] for path in paths]
    labels[0] = [SOFAS, LAMPS]
    fitted = fit(images(paths), labels)
    assert np.isfinite(fitted.held_out).all()
    assert likely(fitted.weights, images([SOFAS], seed=3), SOFAS)[0] > 0.5


def test_a_class_of_one_product_is_unknown_to_the_model_without_it() -> None:
    paths = [SOFAS, SOFAS, CHAIRS, CHAIRS, *[LAMPS] * 20]
    fitted = fit(images(paths), [[path] for path in paths])
    sofas, seats = TREE.index[SOFAS], TREE.index[("seats",)]
    assert not fitted.held_out[:2, sofas].any()
    assert (fitted.held_out[:2, seats] > 0).all()
    assert likely(fitted.weights, images([SOFAS], seed=2), SOFAS)[0] > 0


def test_probabilities_of_nodes_are_sums_by_hand() -> None:
    scores = np.log(np.array([[1.0, 2.0, 5.0]], np.float32))
    nodes = np.array([TREE.index[path] for path in (SOFAS, CHAIRS, LAMPS)])
    found = node_probabilities(scores, nodes, np.asarray(TREE.parents, np.int64))
    by_path = {SOFAS: 0.125, CHAIRS: 0.25, LAMPS: 0.625, ("seats",): 0.375}
    expected = np.array([by_path.get(path, 0.0) for path in TREE.paths])
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_features_are_signed_roots_of_length_one() -> None:
    np.testing.assert_allclose(
        features(np.array([[9, -16], [0, 0]], np.float32)), np.array([[0.6, -0.8], [0, 0]]), rtol=1e-6
    )


@pytest.mark.parametrize("labels", [[[LAMPS]] * 4, [[SOFAS], [("seats",)], [SOFAS], [SOFAS]]])
def test_one_path_is_certain(labels: list[list[TaxonomyPath]]) -> None:
    fitted = fit(images([LAMPS] * 4), labels)
    np.testing.assert_allclose(likely(fitted.weights, images([CHAIRS]), labels[0][0]), [1])


def test_without_labels_there_is_nothing_to_learn() -> None:
    with pytest.raises(TrainingError, match="no label"):
        fit(images([LAMPS] * 4), [[]] * 4)


def test_the_same_data_give_the_same_discriminant() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 6
    first, second = (fit(images(paths), [[path] for path in paths]) for _ in range(2))
    assert (first.weights.weight == second.weights.weight).all()
    assert (first.held_out == second.held_out).all()


def in_products(paths: Sequence[TaxonomyPath], views: int, *, spread: float, view: float) -> tuple[Array, list[str]]:
    """Return embeddings of `views` images of a product of each path, one product after the other, and the products."""
    x = np.repeat(images(paths, spread=spread), views, axis=0)
    x += view * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    return x, [str(number) for number in range(len(paths)) for _ in range(views)]


def test_labels_of_a_product_help_its_other_images() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 20
    x, products = in_products(paths, 6, spread=0.4, view=2.0)
    known = ProductFeatures.of(x, products, 2)
    first = np.arange(0, len(x), 6)
    labels = stops([[path] for path in paths])
    names = [products[row] for row in first]
    shared = ProductFeatures(known.means[first], known.sizes[first], 2)
    alone = fit_discriminant(x[first], labels, names, TREE)
    grouped = fit_discriminant(x[first], labels, names, TREE, shared=[shared])
    held, _ = in_products([SOFAS, CHAIRS, LAMPS] * 30, 6, spread=0.4, view=2.0)
    truth = np.repeat([TREE.index[path] for path in [SOFAS, CHAIRS, LAMPS] * 30], 6)

    def right(probabilities: Array) -> float:
        leaves = [TREE.index[path] for path in (SOFAS, CHAIRS, LAMPS)]
        return float(np.mean(np.array(leaves)[probabilities[:, leaves].argmax(axis=1)] == truth))

    assert right(grouped.weights.probabilities(held)) > right(alone.weights.probabilities(held)) + 0.01


def test_a_label_deeper_than_products_are_pure_is_shared_as_far_as_they_are() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 4
    x, products = in_products(paths, 2, spread=0.4, view=0.2)
    labels = stops([[path] for path in paths for _ in range(2)])
    data = LabelledFeatures.of(x, labels, TREE)
    owners = np.array([int(product) for product in products])
    means = ProductFeatures.of(x, products, 1).means
    learned, rows = data.carried(means, owners, 1, 0.5)
    seats, sofas, lamps = (data.nodes.tolist().index(TREE.index[path]) for path in (("seats",), SOFAS, LAMPS))
    shared, own = len(x), len(learned.x) - len(x)
    assert own == 16  # lamps stop at level 1
    np.testing.assert_array_equal(learned.x[:shared], means)
    np.testing.assert_array_equal(learned.x[shared:], data.x[rows[shared:]])
    # The two labelled images of a product share the weight of its label.
    assert learned.stops[0].tolist() == [0.25 if node == seats else 0 for node in range(len(data.nodes))]
    assert learned.stops[4].tolist() == [0.5 if node == lamps else 0 for node in range(len(data.nodes))]
    assert learned.stops[shared].tolist() == [0.5 if node == sofas else 0 for node in range(len(data.nodes))]


def test_products_that_are_not_pure_change_nothing() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 8
    x, products = in_products(paths, 2, spread=0.5, view=0.2)
    labels = stops([[path] for path in paths for _ in range(2)])
    alone = fit_discriminant(x, labels, products, TREE)
    mixed = fit_discriminant(x, labels, products, TREE, shared=[ProductFeatures.of(x, products, 0)])
    np.testing.assert_array_equal(mixed.weights.weight, alone.weights.weight)
