"""Fused predictions of a group, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.trust.fusion import effective_images, fused, fused_held_out, grafted

from taxonomist.inference.heads.discriminant_weights import Discriminant
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.discriminant.fit_discriminant import DiscriminantOptions, ProductFeatures, learning_of
from tests.training.heads.discriminant.test_fit_discriminant import CHAIRS, LAMPS, SOFAS, in_products, stops
from tests.training.heads.discriminant.test_fit_discriminant import TREE as KINDS

TREE = Tree.from_paths("kind", [("a", "x", "1"), ("a", "x", "2"), ("a", "y"), ("b",)])


def row(**values: float) -> FloatArray:
    return np.array([[values["".join(path)] for path in TREE.paths]], np.float32)


OWN = row(a=0.5, ax=0.4, ax1=0.3, ax2=0.1, ay=0.1, b=0.5)
FUSED = row(a=0.8, ax=0.2, ax1=0.1, ax2=0.1, ay=0.6, b=0.2)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0, OWN),
        (1, row(a=0.8, ax=0.64, ax1=0.48, ax2=0.16, ay=0.16, b=0.2)),
        (2, row(a=0.8, ax=0.2, ax1=0.15, ax2=0.05, ay=0.6, b=0.2)),
        (3, FUSED),
    ],
)
def test_below_the_depth_an_image_divides_what_its_group_has(depth: int, expected: FloatArray) -> None:
    np.testing.assert_allclose(grafted(TREE, FUSED, OWN, depth), expected, rtol=1e-6)


def test_where_an_image_excludes_a_node_the_group_divides_it() -> None:
    own = row(a=0.0, ax=0.0, ax1=0.0, ax2=0.0, ay=0.0, b=1.0)
    np.testing.assert_allclose(grafted(TREE, FUSED, own, 1), FUSED)


def test_images_of_a_group_are_worth_less_than_as_many_independent_ones() -> None:
    sizes = np.array([1, 3, 9])
    np.testing.assert_allclose(effective_images(sizes, 0.5), [1, 1.5, 1.8])
    np.testing.assert_allclose(effective_images(sizes, 0.0), sizes)
    np.testing.assert_allclose(effective_images(sizes, 1.0), [1, 1, 1])


def test_images_of_a_group_are_predicted_together_by_hand() -> None:
    tree = Tree.from_paths("colour", [("red",), ("blue",)])
    head = Discriminant(
        np.array([[1, 0], [0, 1]], np.float32), np.array([0.0, 1.0], np.float32), np.array([0, 1]), np.array([-1, -1])
    )
    own, prior = np.array([[9, -16]], np.float32), np.array([0.1, -0.2], np.float32)
    shared = ProductFeatures(np.array([[0.2, -0.4]], np.float32), np.array([3]), 1)
    found = fused(head, prior, tree, own, shared)
    # Three images with a correlation of .5 are worth 1.5; the prior counts once.
    red, blue = 1.5 * (0.2 + 0 - 0.1) + 0.1, 1.5 * (-0.4 + 1 + 0.2) - 0.2
    expected = np.exp(blue) / (np.exp(blue) + np.exp(red))
    np.testing.assert_allclose(found, [[1 - expected, expected]], rtol=1e-5)


def test_fused_predictions_are_by_models_that_never_saw_the_product() -> None:
    paths = [SOFAS, CHAIRS, LAMPS] * 8
    x, products = in_products(paths, 3, spread=1.0, view=0.5)
    options = DiscriminantOptions(folds=len(paths))
    shared = ProductFeatures.of(x, products, 2)

    def evidence(labels: FloatArray) -> float:
        """Return the difference of two log-likelihoods of product 0: temperature and prior are fitted on all labels."""
        learning = learning_of(x, labels, products, KINDS, options, shared)
        sofas, chairs = (fused_held_out(learning, shared)[0, KINDS.index[path]] for path in (SOFAS, CHAIRS))
        return float(learning.temperature * (np.log(chairs / sofas) - learning.prior_weight * np.log(8 / 7)))

    labels = stops([[path] for path in paths for _ in range(3)])
    others = labels.copy()
    others[:3] = stops([[LAMPS]] * 3)
    assert evidence(others) == pytest.approx(evidence(labels), rel=1e-3)
