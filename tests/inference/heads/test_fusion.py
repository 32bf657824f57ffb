"""Several images of a product predicted together, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxonomist.inference.heads.discriminant_weights import Discriminant
from taxonomist.inference.heads.features import ProductProjection, features
from taxonomist.inference.heads.fusion import (
    Fusion,
    effective_images,
    grafted,
    load_fusions,
    mean_features,
    save_fusions,
)
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree

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


def test_images_of_a_product_are_predicted_together_by_hand() -> None:
    tree = Tree.from_paths("colour", [("red",), ("blue",)])
    head = Discriminant(
        np.array([[1, 0], [0, 1]], np.float32), np.array([0.0, 1.0], np.float32), np.array([0, 1]), np.array([-1, -1])
    )
    fusion = Fusion(2.0, np.array([0.0, 0.5], np.float32), np.array([0.1, -0.2], np.float32), 1)
    own, means = np.array([[9, -16]] * 2, np.float32), np.array([[0.2, -0.4]] * 2, np.float32)
    together, alone = fusion.probabilities(head, tree, own, means, np.array([3, 1]))
    # Three images with a correlation of .5 are worth 1.5; the prior counts once.
    red, blue = 1.5 * (2 * 0.2 + 0) + 0.1, 1.5 * (2 * -0.4 + 0.5) - 0.2
    expected = np.exp(blue) / (np.exp(blue) + np.exp(red))
    np.testing.assert_allclose(together, [1 - expected, expected], rtol=1e-5)
    np.testing.assert_allclose(alone, head.probabilities(own)[1])


def test_means_of_the_features_of_a_product() -> None:
    own, others = np.array([[1, 0], [0, 4]], np.float32), np.array([[0, 9], [0, 1]], np.float32)
    means, sizes = mean_features(own, [others, others[:0]])
    np.testing.assert_allclose(means, [features(np.concatenate([own[:1], others])).mean(axis=0), [0, 1]])
    assert sizes.tolist() == [3, 1]


def test_means_are_those_in_the_space_of_the_head() -> None:
    own, others = np.array([[1, 0]], np.float32), np.array([[0, 9], [4, 1]], np.float32)
    space = ProductProjection(np.array([0.1, 0.2], np.float32), np.array([[1, 2], [0, 3]], np.float32))
    means, _ = mean_features(own, [others], space)
    np.testing.assert_allclose(means[0], features(np.concatenate([own, others]), space).mean(axis=0), rtol=1e-5)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    fusion = Fusion(0.5, np.array([1, 2], np.float32), np.array([3, 4], np.float32), 2)
    save_fusions(tmp_path / "a", {"one": fusion, "two": fusion})
    found = load_fusions(tmp_path / "a")
    assert list(found) == ["one", "two"]
    assert (found["two"].scale, found["two"].depth) == (0.5, 2)
    np.testing.assert_array_equal(found["two"].prior, fusion.prior)
    (tmp_path / "b").write_bytes(b"no arrays")
    with pytest.raises(DamagedError, match="not a readable fusion"):
        load_fusions(tmp_path / "b")
