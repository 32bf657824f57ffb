"""What images of known products teach, and how many of them do."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.inference.heads.features import features
from taxonomist.training import product_space
from taxonomist.training.product_space import FEWEST_PRODUCTS, TaughtSpace, batches_of, scatter_of
from tests.training.test_look_alike_projection import images


def test_batches_of_whole_products_teach_what_all_images_at_once_do() -> None:
    one, two = images(1, 30), images(2, 30)
    parts = [(found.embeddings, found.products) for found in (one, two)]
    x, products = np.concatenate([x for x, _ in parts]), [*one.products, *two.products]
    taught, whole = (TaughtSpace.of(scatter_of(batches)) for batches in (parts, [(x, products)]))
    assert taught is not None
    assert whole is not None
    assert (taught.products, taught.images) == (60, len(x))
    np.testing.assert_allclose(features(x, taught.space), features(x, whole.space), atol=1e-4)


def test_a_space_has_as_many_numbers_as_products_can_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    found = images(1, FEWEST_PRODUCTS)
    taught = TaughtSpace.of(scatter_of([(found.embeddings, found.products)]))
    assert taught is not None
    assert taught.space.matrix.shape == (20, FEWEST_PRODUCTS - 1)
    monkeypatch.setattr(product_space, "DIRECTIONS", 7)
    taught = TaughtSpace.of(scatter_of([(found.embeddings, found.products)]))
    assert taught is not None
    assert taught.space.matrix.shape == (20, 7)


def test_too_few_products_teach_nothing() -> None:
    few, single = images(1, FEWEST_PRODUCTS - 1), images(2, 5)
    assert TaughtSpace.of(None) is None
    alone = [f"image {row}" for row in range(len(single.products))]
    batches = [(few.embeddings, few.products), (single.embeddings, alone)]
    assert TaughtSpace.of(scatter_of(batches)) is None


def test_batches_have_whole_products_up_to_a_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_space, "_BATCH", 3)
    monkeypatch.setattr(product_space, "MOST_OF_A_PRODUCT", 2)
    products = {"a": ["1", "2", "3"], "b": ["4"], "c": ["5", "6"], "d": ["7"]}
    assert list(batches_of(products, 5)) == [[("a", "1"), ("a", "2"), ("b", "4")], [("c", "5"), ("c", "6")]]
