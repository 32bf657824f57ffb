"""The mean features of products, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxonomist.inference.heads.features import ProductProjection, features
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.training.heads.data import companions as module
from taxonomist.training.heads.data.companions import read_companions

X = np.array([[9, -16], [1, 0], [0, 4], [16, 9]], np.float32)  # features (.6, -.8), (1, 0), (0, 1), (.8, .6)


@pytest.fixture
def store(tmp_path: Path) -> FolderEmbeddings:
    embeddings = FolderEmbeddings(tmp_path, 2)
    embeddings.append(["a", "b", "c", "d"], X)
    return embeddings


def test_a_mean_has_all_images_of_the_product(store: FolderEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    (found,) = read_companions({"p": ["a", "b", "missing"], "q": ["c"], "other": ["d"]}, {"p", "q", "r"}, store)
    means, sizes = found.means(X[[3, 3, 1, 2, 0]], ["p", "p", "q", "r", None])
    assert sizes.tolist() == [4, 4, 2, 1, 1]
    expected = [[(0.6 + 1 + 0.8 + 0.8) / 4, (-0.8 + 0 + 0.6 + 0.6) / 4]] * 2 + [[0.5, 0.5], [0, 1], [0.6, -0.8]]
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-7)


def test_a_large_product_has_a_limit(store: FolderEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COMPANIONS", 2)
    (found,) = read_companions({"p": ["d", "c", "b", "a"]}, {"p"}, store)
    assert found.counts.tolist() == [2]
    np.testing.assert_allclose(found.sums, [[1.6, -0.8]], rtol=1e-5)


def test_means_in_a_space_are_those_of_the_features_there(store: FolderEmbeddings) -> None:
    space = ProductProjection(np.array([0.1, 0.2], np.float32), np.array([[1, 2, 0], [0, 3, 1]], np.float32))
    plain, inside = read_companions({"p": ["a", "b"]}, {"p"}, store, [space])
    for found, given in ((plain, None), (inside, space)):
        means, sizes = found.means(X[[3, 2]], ["p", None])
        assert sizes.tolist() == [3, 1]
        expected = [features(X[[0, 1, 3]], given).mean(axis=0), features(X[[2]], given)[0]]
        np.testing.assert_allclose(means, expected, rtol=1e-5)


def test_products_without_other_images_have_none(store: FolderEmbeddings) -> None:
    assert read_companions({"q": ["c"]}, {"p"}, store) == ()
