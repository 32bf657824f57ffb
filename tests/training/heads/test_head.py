from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.errors import DamagedError, TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import HeadData, Outputs
from taxonomist.training.heads.evaluation import predict_paths
from taxonomist.training.heads.head import HeadOptions, _Trainer, train_head

OPTIONS = HeadOptions(hidden=32, threads=1)


def toy(tree: Tree, count: int, seed: int, *, only_level_1: bool = False) -> tuple[NDArray[Any], list[TaxonomyPath]]:
    """Embeddings of 16 numbers around a centre per leaf, far from standardised, and the leaf of each."""
    leaves = [path for path in tree.paths if len(path) == 2]
    centres = np.random.default_rng(5).normal(size=(len(leaves), 16))
    random = np.random.default_rng(seed)
    chosen = random.integers(len(leaves), size=count)
    x = 40 + 10 * (centres[chosen] + 0.3 * random.normal(size=(count, 16)))
    return x.astype(np.float32), [leaves[i][:1] if only_level_1 else leaves[i] for i in chosen]


def data_of(tree: Tree, x: NDArray[Any], paths: Sequence[TaxonomyPath]) -> HeadData:
    return HeadData.plain(x, Outputs((tree,)).encode([{"media": (path,)} for path in paths]))


def test_head_learns_all_levels(tree: Tree) -> None:
    x, paths = toy(tree, 300, 0)
    held_x, held_paths = toy(tree, 60, 1)
    head = train_head(data_of(tree, x, paths), Outputs((tree,)), OPTIONS, data_of(tree, held_x, held_paths))
    test_x, test_paths = toy(tree, 100, 2)
    predicted = predict_paths(tree, head.weights.logits(test_x)["media"])
    assert np.mean([p == t for p, t in zip(predicted, test_paths, strict=True)]) > 0.95
    assert head.curves[head.best].refined_loss == min(epoch.refined_loss for epoch in head.curves)
    assert head.curves[head.best].refined_loss <= head.curves[head.best].validation_loss


def test_labels_of_level_1_leave_the_rest_alone(tree: Tree) -> None:
    x, paths = toy(tree, 200, 0, only_level_1=True)
    trainer = _Trainer(data_of(tree, x, paths), Outputs((tree,)), replace(OPTIONS, weight_decay=0.0), None)
    below = np.flatnonzero(tree.levels == 2)
    before = trainer._weights()
    trainer.run(lambda done, of: None)
    after = trainer._weights()
    assert (after.weight2[below] == before.weight2[below]).all()
    assert (after.weight2[np.flatnonzero(tree.levels == 1)] != before.weight2[np.flatnonzero(tree.levels == 1)]).any()


def test_numpy_and_torch_agree(tree: Tree) -> None:
    x, paths = toy(tree, 100, 0)
    trainer = _Trainer(data_of(tree, x, paths), Outputs((tree,)), OPTIONS, None)
    head = trainer.run(lambda done, of: None)
    with torch.inference_mode():
        expected = trainer.average.eval()(trainer.x).numpy()
    np.testing.assert_allclose(head.weights.outputs(x), expected, rtol=1e-4, atol=1e-4)


def test_same_seed_same_weights(tree: Tree) -> None:
    x, paths = toy(tree, 100, 0)
    data, outputs = data_of(tree, x, paths), Outputs((tree,))
    one, same, other = (train_head(data, outputs, replace(OPTIONS, seed=seed)).weights.weight2 for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_surroundings_are_left_as_they_were(tree: Tree) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    x, paths = toy(tree, 40, 0)
    train_head(data_of(tree, x, paths), Outputs((tree,)), replace(OPTIONS, threads=threads + 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_node_without_training_images_does_not_stop_the_training(tree: Tree) -> None:
    x, paths = toy(tree, 300, 0)
    keep = [path != ("pipes", "pipes-b") for path in paths]
    known_x, known = x[keep], [path for path in paths if path != ("pipes", "pipes-b")]
    held_x, held = toy(tree, 100, 1)
    unseen = _Trainer(data_of(tree, known_x, known), Outputs((tree,)), OPTIONS, data_of(tree, held_x, held)).validation
    assert unseen is not None
    assert not unseen[1][:, tree.index["pipes", "pipes-b"]].any()
    assert unseen[1][:, tree.index["pipes",]].any()


def test_oversampling_draws_rare_classes_as_often(tree: Tree) -> None:
    paths = [("bath", "bath-a")] * 90 + [("tools", "tools-a")] * 10
    x = np.zeros((100, 16), np.float32)
    trainer = _Trainer(data_of(tree, x, paths), Outputs((tree,)), OPTIONS, None)
    drawn = trainer._draw_images()
    assert len(drawn) == 100
    assert 49 <= (drawn >= 90).sum() <= 51
    assert len(set(drawn[drawn >= 90])) == 10  # each of the rare ones, not one of them many times
    plain = _Trainer(data_of(tree, x, paths), Outputs((tree,)), replace(OPTIONS, imbalance="none"), None)
    assert sorted(plain._draw_images()) == list(range(100))


@pytest.mark.parametrize("imbalance", ["oversample", "weights"])
def test_imbalance_helps_the_rare_class(tree: Tree, imbalance: Literal["oversample", "weights"]) -> None:
    random = np.random.default_rng(0)

    def overlapping(many: int, few: int) -> tuple[NDArray[Any], list[TaxonomyPath]]:
        x = np.concatenate([random.normal(0.0, 1, (many, 16)), random.normal(0.45, 1, (few, 16))])
        return x.astype(np.float32), [*[("bath",)] * many, *[("tools",)] * few]

    x, paths = overlapping(380, 20)
    test_x, _ = overlapping(0, 200)
    recall: dict[str, float] = {}
    ways: tuple[Literal["none", "oversample", "weights"], ...] = ("none", imbalance)
    for way in ways:
        head = train_head(data_of(tree, x, paths), Outputs((tree,)), replace(OPTIONS, imbalance=way, epochs=10))
        recall[way] = float(
            np.mean([path[0] == "tools" for path in predict_paths(tree, head.weights.logits(test_x)["media"])])
        )
    assert recall[imbalance] > recall["none"] + 0.2


def test_views_are_rows_of_their_image(tree: Tree) -> None:
    x, paths = toy(tree, 50, 0)
    outputs = Outputs((tree,))
    targets = outputs.encode([{"media": (path,)} for path in paths])
    owners = np.repeat(np.arange(50), [1 + i % 3 for i in range(50)])  # some images have fewer views
    data = HeadData(x[owners], owners, targets)
    trainer = _Trainer(data, outputs, OPTIONS, None)
    assert (data.owners[trainer.first_row] == np.arange(50)).all()
    assert trainer.row_count.tolist() == [1 + i % 3 for i in range(50)]
    drawn = np.concatenate([trainer._draw_rows(np.arange(50)) for _ in range(200)])
    assert (owners[drawn] == np.tile(np.arange(50), 200)).all()
    assert set(drawn) == set(range(len(owners)))
    with_views = (trainer.row_count > 1).sum() / 50
    assert np.isin(drawn, trainer.first_row).mean() == pytest.approx(1 - with_views / 2, abs=0.02)
    np.testing.assert_allclose(trainer.mean, x.mean(axis=0), rtol=1e-5)
    head = train_head(data, outputs, OPTIONS)
    predicted = predict_paths(tree, head.weights.logits(x)["media"])
    assert np.mean([p == t for p, t in zip(predicted, paths, strict=True)]) > 0.9


def test_a_constant_feature_and_one_image_do_no_harm(tree: Tree) -> None:
    head = train_head(data_of(tree, np.ones((1, 16), np.float32), [("bath",)]), Outputs((tree,)), OPTIONS)
    assert np.isfinite(head.weights.outputs(np.ones((1, 16), np.float32))).all()


def test_nothing_to_learn_from(tree: Tree) -> None:
    outputs = Outputs((tree,))
    with pytest.raises(TrainingError, match="no labelled image"):
        train_head(data_of(tree, np.zeros((0, 16), np.float32), []), outputs, OPTIONS)
    with pytest.raises(TrainingError, match="not finite"):
        train_head(data_of(tree, np.full((2, 16), np.nan, np.float32), [("bath",)] * 2), outputs, OPTIONS)


def test_saved_head_is_the_same(tree: Tree, tmp_path: Path) -> None:
    x, paths = toy(tree, 40, 0)
    weights = train_head(data_of(tree, x, paths), Outputs((tree,)), OPTIONS).weights
    weights.save(tmp_path / "head.safetensors")
    loaded = HeadWeights.load(tmp_path / "head.safetensors")
    assert loaded.controls == (("media", len(tree)),)
    assert (loaded.logits(x)["media"] == weights.logits(x)["media"]).all()


def test_damaged_head(tree: Tree, tmp_path: Path) -> None:
    x, paths = toy(tree, 40, 0)
    path = tmp_path / "head.safetensors"
    weights = train_head(data_of(tree, x, paths), Outputs((tree,)), OPTIONS).weights
    weights.save(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DamagedError, match="not a readable head"):
        HeadWeights.load(path)
    replace(weights, controls=(("media", 3),)).save(path)
    with pytest.raises(DamagedError, match="do not fit"):
        HeadWeights.load(path)
    with pytest.raises(DamagedError):
        HeadWeights.load(tmp_path / "missing.safetensors")
