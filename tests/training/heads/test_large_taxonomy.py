"""A taxonomy with far more nodes than labels name: what is learned is the same, and memory is bounded."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from taxonomist.inference.heads.features import features
from taxonomist.progress import ignore_steps
from taxonomist.taxonomy.labelled_part import labelled_part
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads import learning
from taxonomist.training.heads.data.companions import Companions
from taxonomist.training.heads.data.dataset import Dataset, Example
from taxonomist.training.heads.data.targets import Outputs
from taxonomist.training.heads.evaluation import evaluate, evaluate_together
from taxonomist.training.heads.learning import Learned, TrainingOptions, learn
from taxonomist.training.heads.promotion.champion import predict


def large_tree(groups: int, children: int) -> Tree:
    tops = [(f"g{number:04d}",) for number in range(groups)]
    return Tree("t", "image", "taxonomy", (*tops, *((*top, f"n{name}") for top in tops for name in range(children))))


def data_of(tree: Tree, images: int, noise: float) -> Dataset:
    """Return images of the second and third child of some groups; every fifth label stops above them. A product has two
    images with labels and two without."""
    random = np.random.default_rng(0)
    parents = [path for path in tree.paths if len(path) == 1][2:30:3]
    leaves = [(*parent, f"n{number}") for parent in parents for number in (1, 2)]
    centres = random.normal(size=(len(leaves), 16))
    chosen = (np.arange(images) // 2) % len(leaves)
    x = (centres[chosen] + random.normal(size=(images, 16)) * noise).astype(np.float32)
    others = features((centres[chosen[::2]] + random.normal(size=(images // 2, 16)) * noise).astype(np.float32))
    train = tuple(
        Example(str(row), {"t": (leaves[chosen[row]][: 1 if row % 5 == 0 else 2],)}, str(row // 2))
        for row in range(images)
    )
    companions = Companions({str(row): row for row in range(images // 2)}, 2 * others, np.full(images // 2, 2))
    return Dataset(train, (), train, train, x, np.arange(images), x[:0], x, (companions,))


def learned(tree: Tree, data: Dataset) -> Learned:
    return learn(data, Outputs((tree,)), TrainingOptions(kind="lda", target_precision=0.8), ignore_steps)


def test_nodes_without_labels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = large_tree(40, 6)
    data = data_of(tree, 400, noise=1.5)
    found = learned(tree, data)
    part = labelled_part(tree, [example.labels["t"] for example in data.train])
    assert len(part) < len(tree) / 2
    monkeypatch.setattr(learning, "labelled_part", lambda whole, _labels: whole)
    whole = learned(tree, data)
    assert found.calibration["t"].suggests_paths
    assert found.calibration["t"].has_shortlists
    assert found.fused.keys() == {"t"}
    assert (found.calibration, found.fused) == (whole.calibration, whole.fused)
    assert found.validation["t"].to_json() == whole.validation["t"].to_json()
    own, other = (each.head.log_probabilities(data.test_x, {"t": tree}, {})["t"] for each in (found, whole))
    np.testing.assert_array_equal(own, other)


def test_memory_does_not_grow_with_images_times_nodes() -> None:
    tree = large_tree(300, 99)
    data = data_of(tree, 600, noise=0.8)
    images_times_nodes = 4 * len(data.train) * len(tree)
    labels = [example.labels for example in data.scored]
    _ = tree.index, tree.parents, tree.levels, tree.groups, tree.depth
    tracemalloc.start()
    try:
        found = learned(tree, data)
        evaluate(found.head, [tree], data.test_x, labels)
        groups = [example.group for example in data.scored]
        assert evaluate_together(found.head, found.fusions, [tree], data.test_x, labels, groups)
        predictions = predict(found.head, {"t": tree}, [tree], data.test_x, found.calibration)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * images_times_nodes
    assert predictions["t"].log_probabilities.shape == (600, len(predictions["t"].nodes))
