"""A projection of look-alikes is kept where it helps products that it has not seen, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.groups.projection import ProductScatter
from taxonomist.training.look_alike_projection import LearnedLookAlikes, ProductVectors, fit_look_alikes
from taxonomist.training.product_space import scatter_of

IMAGES, DIMENSION = 6, 20


def images(
    seed: int, products: int, *, differ: slice = slice(10, 20), noise: slice = slice(0, 10), size: float = 2.0
) -> ProductVectors:
    """Return images of products that `differ` in some directions, with noise of a `size` in others.

    The kind of a product is the largest of its first numbers.
    """
    random = np.random.default_rng(seed)
    means = np.zeros((products, DIMENSION))
    means[:, differ] = random.normal(0, 1, (products, differ.stop - differ.start))
    kinds = means[:, differ][:, :4].argmax(axis=1).repeat(IMAGES)
    x = means.repeat(IMAGES, axis=0) + random.normal(0, 0.1, (products * IMAGES, DIMENSION))
    x[:, noise] += random.normal(0, size, (len(x), noise.stop - noise.start))
    names = [f"{seed}-{number}" for number in range(products) for _ in range(IMAGES)]
    return ProductVectors(squared(x), names, [{("kind", str(kind))} for kind in kinds])


def squared(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return embeddings whose signed roots are `x`."""
    return (np.sign(x) * x**2).astype(np.float32)


def taught(teach: list[ProductVectors]) -> ProductScatter | None:
    return scatter_of((found.embeddings, found.products) for found in teach)


def fitted(held_out: ProductVectors, labelled: ProductVectors, teach: list[ProductVectors]) -> LearnedLookAlikes:
    found = fit_look_alikes(taught(teach), held_out, labelled)
    assert found is not None
    return found


def test_what_images_of_one_product_differ_by_counts_less() -> None:
    found = fitted(images(3, 30), images(4, 60), [images(1, 60), images(2, 60)])
    before, after = found.figures.same_product
    assert after > before + 0.2
    assert found.projection is not None
    assert found.figures.served
    assert (found.figures.products, found.figures.images, found.figures.held_out) == (120, 720, 30)


def test_a_projection_that_is_worse_for_held_out_products_is_not_kept() -> None:
    """The other products taught that some directions are noise. For those that are held out, they are the products."""
    held_out, labelled = (images(seed, 30, differ=slice(0, 10), noise=slice(10, 20), size=0.5) for seed in (3, 4))
    found = fitted(held_out, labelled, [images(1, 60)])
    before, after = found.figures.same_product
    assert after < before - 0.05
    assert found.projection is None
    assert not found.figures.served


def test_a_projection_with_which_look_alikes_have_other_labels_is_not_kept() -> None:
    """Groups may be reports that show several things: then the nearest image is of the report, and of another kind."""

    def labelled_by_noise(seed: int, products: int) -> ProductVectors:
        found = images(seed, products, noise=slice(0, 1))
        signs = [f"{row > 0}" for row in found.embeddings[:, 0]]
        return ProductVectors(found.embeddings, found.products, [{("kind", sign)} for sign in signs])

    found = fitted(labelled_by_noise(3, 60), labelled_by_noise(4, 30), [images(1, 60, noise=slice(0, 1))])
    assert found.figures.same_product[1] > found.figures.same_product[0]
    assert found.figures.same_labels[1] < found.figures.same_labels[0]
    assert found.projection is None


def test_too_few_products_teach_and_judge_nothing() -> None:
    many, labelled = images(1, 60), images(4, 60)
    few = images(3, 19)
    assert fit_look_alikes(taught([many]), few, labelled) is None
    assert fit_look_alikes(taught([few]), images(5, 30), labelled) is None
    without = ProductVectors(labelled.embeddings, labelled.products, [set()] * len(labelled.products))
    assert fit_look_alikes(taught([many]), without, labelled) is None


def test_a_projection_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = fitted(images(3, 30), images(4, 60), [images(1, 60)]).projection
    assert found is not None
    found.save(tmp_path / "a")
    read = LookAlikeProjection.load(tmp_path / "a")
    x = images(5, 2).embeddings
    np.testing.assert_allclose(read.of(x), found.of(x), atol=0.01)
    (tmp_path / "b").write_bytes(b"{}")
    with pytest.raises(DamagedError, match="not a readable projection"):
        LookAlikeProjection.load(tmp_path / "b")
