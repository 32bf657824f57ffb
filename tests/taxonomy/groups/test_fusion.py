"""Fused predictions of a group, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.taxonomy.groups import effective_images, grafted
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
