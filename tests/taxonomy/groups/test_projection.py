"""Sums over products, and what they teach: against scikit-learn, and by properties."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants, whitening


def drawn(products: int = 30, images: int = 8, dimension: int = 6) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Return images of products whose images differ more in some directions than in others."""
    random = np.random.default_rng(0)
    names = np.repeat([f"p{number}" for number in range(products)], images)
    means = random.normal(0, 1, (products, dimension)).repeat(images, axis=0)
    x = 3 + means + random.normal(0, 1, means.shape) @ random.normal(0, 1, (dimension, dimension))
    return x.astype(np.float32), names


def test_batches_of_whole_products_add_up_and_a_product_with_one_image_is_left_out() -> None:
    x, names = drawn()
    whole = ProductScatter.of(x, names)
    parts = ProductScatter.of(x[:80], names[:80]) + ProductScatter.of(
        np.concatenate([x[80:], x[:1] + 9]), [*names[80:], "alone"]
    )
    for name in ("within", "between", "total"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)
    assert (parts.images, parts.products) == (whole.images, whole.products) == (240, 30)
    centred = np.concatenate([x[names == name] - x[names == name].mean(axis=0) for name in np.unique(names)])
    np.testing.assert_allclose(whole.within, centred.T @ centred, rtol=1e-4, atol=1e-3)


def test_whitened_images_of_a_product_differ_equally_in_all_directions() -> None:
    x, names = drawn()
    matrix = whitening(ProductScatter.of(x, names), shrinkage=0)
    scatter = ProductScatter.of((x @ matrix).astype(np.float32), names)
    np.testing.assert_allclose(scatter.within / (240 - 30), np.eye(6), atol=1e-4)


def test_without_shrinkage_the_directions_are_those_of_linear_discriminant_analysis() -> None:
    x, names = drawn()
    found = (x - x.mean(axis=0)) @ discriminants(ProductScatter.of(x, names), 3, shrinkage=0)
    expected = LinearDiscriminantAnalysis(n_components=3).fit(x, names).transform(x)
    for number in range(3):
        assert abs(np.corrcoef(found[:, number], expected[:, number])[0, 1]) > 0.9999


def test_images_without_any_difference_within_products_give_a_finite_matrix() -> None:
    x, names = drawn(images=1)
    same = ProductScatter.of(x.repeat(2, axis=0), names.repeat(2))
    assert np.isfinite(discriminants(same, 3)).all()
