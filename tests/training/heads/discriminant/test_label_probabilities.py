"""Two models without the image: one without its product, one with its other views."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant.label_probabilities import label_probabilities, mean_probabilities

A, B = ("a",), ("b",)
TREE = Tree.from_paths("kind", [A, B])


def test_the_geometric_mean_and_nodes_that_are_not_known() -> None:
    first, second = np.array([[0.9, 0.0]], np.float32), np.array([[0.4, 0.6]], np.float32)
    expected = (0.901 * 0.401) ** 0.5 - 0.001
    assert mean_probabilities(first, second)[0].tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_a_wrong_label_is_improbable() -> None:
    random = np.random.default_rng(0)
    is_b = np.arange(40) % 2 == 1
    x = (random.normal(0, 0.3, (40, 6)) + np.where(is_b, 1, -1)[:, None]).astype(np.float32)
    labels = [[B] if b else [A] for b in is_b]
    labels[0] = [B]
    steps: list[float] = []
    found = label_probabilities(x, stops(TREE, labels), [str(row // 4) for row in range(40)], TREE, steps.append)
    own = found[np.arange(40), [TREE.index[paths[0]] for paths in labels]]
    assert int(own.argmin()) == 0
    assert own[0] < 0.2 < own[1:].min()
    assert steps == [0.0, 0.5, 1.0]
