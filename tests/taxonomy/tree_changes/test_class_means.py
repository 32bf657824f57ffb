"""Nodes whose images look alike, by the means of their embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_changes.class_means import Means, most_alike


def test_the_node_with_the_nearest_mean_direction_is_the_most_alike() -> None:
    means = Means()
    means.add("gone", np.array([[4.0, 1.0], [0.0, 0.0]]))  # length does not count, and a vector of zeros says nothing
    means.add("gone", np.array([[1.0, 0.0], [0.3, 0.1]]))
    means.add("near", np.array([[1.0, 0.2]] * 3))
    means.add("far", np.array([[0.0, 9.0]] * 3))
    means.add("few", np.array([[4.0, 1.0]] * 2))
    found = means.directions(["gone", "few", "none"])
    assert means.counts["gone"] == 3
    assert found.keys() == {"gone"}
    unit = np.array([[4, 1], [1, 0], [3, 1]]) / np.sqrt([[17], [1], [10]])
    np.testing.assert_allclose(found["gone"], unit.sum(axis=0) / np.linalg.norm(unit.sum(axis=0)))
    nodes: dict[TaxonomyPath, NDArray[np.float64]] = {
        (name,): direction for name, direction in means.directions(["near", "far", "few"]).items()
    }
    assert most_alike(found, nodes) == {"gone": ("near",)}
    assert most_alike(found, {}) == {}


def test_vectors_that_cancel_each_other_have_no_direction() -> None:
    means = Means()
    means.add("node", np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert means.directions(["node"]) == {}
