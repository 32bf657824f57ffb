"""Pre-training on small pictures: broken runs, collapse, what it leaves."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from storage.registry.folder import FolderRegistry
from taxonomy.errors import TrainingError
from training.batches import Batches, Schedule
from training.contrast import Contrast
from training.embedder import Embedder
from training.precision import choose_precision
from training.pretrain import Interrupted, Pretrained, Probe, Status, pretrain, publish_pretrained
from training.probe import embed, neighbour_score
from training.recipe import PRESETS, Recipe

RECIPE = Recipe(size=16, batch=16, epochs=4, queue=32, shuffle_groups=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(count: int = 64, side: int = 24) -> NDArray[np.uint8]:
    """Coloured blobs on grey, four kinds in turn."""
    random = np.random.default_rng(0)
    colours = np.array([[220, 30, 30], [30, 170, 60], [30, 50, 220], [230, 210, 40]])
    made = random.normal(128, 10, (count, side, side, 3))
    for row in range(count):
        x, y = random.integers(0, side // 2, 2)
        made[row, y : y + side // 2, x : x + side // 2] = colours[row % 4]
    return np.clip(made, 0, 255).astype(np.uint8)


def probe() -> Probe:
    return Probe(pictures(), np.arange(64) % 4, np.arange(64) // 2)


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "curves.csv").open() as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    torch.set_num_threads(1)
    return pretrain(pictures(), RECIPE, tmp_path_factory.mktemp("unbroken"), probe=probe(), device="cpu")


def test_a_broken_run_ends_as_the_unbroken_one(unbroken: Pretrained, tmp_path: Path) -> None:
    for patience in (5, 6):
        calls = iter([False] * patience + [True])
        with pytest.raises(Interrupted):
            pretrain(pictures(), RECIPE, tmp_path, probe=probe(), device="cpu", should_stop=calls.__next__)
    done = pretrain(pictures(), RECIPE, tmp_path, probe=probe(), device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)
    assert [step for step, _ in losses(tmp_path)] == [4, 8, 12, 16]
    assert done.weights.read_bytes() == unbroken.weights.read_bytes()
    assert done.summary["seen"] == 256


@pytest.mark.slow
def test_a_killed_run_ends_as_the_unbroken_one(unbroken: Pretrained, tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from tests.training.test_pretrain import *\n"
        "pretrain(pictures(), RECIPE, Path(sys.argv[1]), probe=probe(), device='cpu')"
    )
    random = np.random.default_rng(3)
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while not (tmp_path / "run.json").exists() and time.monotonic() - began < 60 and child.poll() is None:
            time.sleep(0.05)
        time.sleep(float(random.uniform(0.2, 3)))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    pretrain(pictures(), RECIPE, tmp_path, probe=probe(), device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)
    assert (tmp_path / "best.safetensors").read_bytes() == unbroken.weights.read_bytes()


def test_a_finished_run_is_not_run_again(unbroken: Pretrained) -> None:
    before = (unbroken.folder / "last.ckpt").stat().st_mtime_ns
    again = pretrain(pictures(), RECIPE, unbroken.folder, probe=probe(), device="cpu")
    assert again.summary == json.loads(json.dumps(unbroken.summary))
    assert (unbroken.folder / "last.ckpt").stat().st_mtime_ns == before


def test_another_recipe_begins_anew(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    first = pretrain(pictures(), recipe, tmp_path, device="cpu")
    other = pretrain(pictures(), replace(recipe, seed=1), tmp_path, device="cpu")
    assert other.summary["loss"] != first.summary["loss"]
    assert losses(tmp_path) == [(4, other.summary["loss"])]


def test_what_it_leaves(unbroken: Pretrained, tmp_path: Path) -> None:
    assert {"last.ckpt", "best.safetensors", "curves.csv", "loss.png", "tensorboard", "summary.json"} <= {
        path.name for path in unbroken.folder.iterdir()
    }
    assert list((unbroken.folder / "tensorboard").glob("events*"))
    version = publish_pretrained(FolderRegistry(tmp_path), unbroken, 24)
    assert {"backbone.onnx", "backbone.safetensors", "curves.csv", "loss.png"} <= set(version.manifest["files"])
    assert version.manifest["pretraining"]["recipe"]["batch"] == 16
    assert version.manifest["pretraining"]["data"]["count"] == 64
    assert version.manifest["origin"] == "MoCo v2, 256 pictures seen, from random, seed 0"
    # The published network is the query encoder of the best moment, as the probe saw it.
    served = Embedder(version.path / "backbone.onnx").embed(pictures())
    assert neighbour_score(torch.from_numpy(served), probe()) == pytest.approx(unbroken.summary["score"], abs=0.05)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Status] = []
    pretrain(pictures(160), replace(RECIPE, epochs=3), tmp_path, device="cpu", on_status=told.append)
    assert all(0 < status.step <= 30 and status.steps == 30 for status in told)
    assert all(status.pictures_per_s > 0 and status.seconds_left >= 0 for status in told)


def test_a_collapsed_embedding_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.watch._SETTLED", 2)
    same = np.repeat(pictures(1), 64, 0)  # nothing to tell apart
    recipe = replace(RECIPE, epochs=2, lr=1e-6)
    with pytest.raises(TrainingError, match="collapsed"):
        pretrain(same, recipe, tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no number"):
        pretrain(pictures(), replace(RECIPE, lr=1e30), tmp_path, device="cpu")


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few"):
        pretrain(pictures(8), RECIPE, tmp_path, device="cpu")


def test_the_score_does_not_count_pictures_of_the_same_product() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    vectors = torch.from_numpy(np.repeat(centres, 3, 0) + random.normal(0, 0.01, (120, 16))).float()
    groups = np.repeat(np.arange(40), 3)
    of_product = Probe(np.zeros((120, 1, 1, 3), np.uint8), groups % 2, groups)
    alone = replace(of_product, groups=np.arange(120))
    assert neighbour_score(vectors, alone) > 0.95  # the other views of the product give it away
    assert neighbour_score(vectors, of_product) < 0.7


def test_embedding_leaves_the_encoder_in_training() -> None:
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1))
    encoder.append(torch.nn.Flatten())
    before = encoder[1].running_mean.clone()
    embed(encoder.train(), pictures(8), torch.device("cpu"))
    assert encoder.training
    torch.testing.assert_close(encoder[1].running_mean, before)


def test_each_epoch_sees_every_picture_once() -> None:
    schedule = Schedule(count=50, batch=10, seed=1)
    epochs = [np.concatenate([schedule.rows(step)[0] for step in range(at, at + 5)]) for at in (0, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    np.testing.assert_array_equal(Schedule(count=50, batch=10, seed=1).rows(7)[0], schedule.rows(7)[0])


def test_partners_are_of_the_same_group() -> None:
    groups = np.array([0, 0, 0, 7, 7, -1, -1, 3])
    schedule = Schedule(count=8, batch=8, seed=0, groups=groups)
    partners: dict[int, set[int]] = {}
    for step in range(60):
        for row, key in zip(*schedule.rows(step), strict=True):
            partners.setdefault(int(row), set()).add(int(key))
    assert partners == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}, 3: {3, 4}, 4: {3, 4}, 5: {5}, 6: {6}, 7: {7}}
    ids = schedule.ids(np.arange(8))
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids.tolist())) == 5


def test_devices_share_a_batch() -> None:
    whole = Schedule(count=64, batch=16, seed=2).rows(3)[0]
    parts = [Schedule(count=64, batch=16, seed=2, share=(number, 2)).rows(3)[0] for number in (0, 1)]
    assert sorted(np.concatenate(parts)) == sorted(whole)


def test_batches_bring_pictures_or_their_rows() -> None:
    schedule = Schedule(count=64, batch=16, seed=0)
    (step, ids, queries, keys), *rest = Batches(pictures(), schedule, 2, 5)
    assert (step, len(rest)) == (2, 2)
    np.testing.assert_array_equal(queries.numpy(), pictures()[ids.numpy()])
    assert keys is queries
    rows = next(iter(Batches(None, schedule, 2, 5)))[2]
    torch.testing.assert_close(rows, ids)


def test_the_queue_is_a_power_of_two_below_half_the_pictures() -> None:
    assert [Recipe().queue_for(count) for count in (64, 65, 1000, 15_000, 10**6)] == [16, 16, 256, 4096, 65_536]
    assert PRESETS["thesis"].queue_for(15_000) == 2048


def test_sizes_grow_in_equal_shares() -> None:
    module = Contrast(pictures(), replace(RECIPE, sizes=(8, 12), epochs=3), None, 4)
    assert [module.size_at(step) for step in range(12)] == [8] * 4 + [12] * 4 + [16] * 4


def test_precision_is_one_that_lightning_knows() -> None:
    assert choose_precision(torch.device("cpu")) in {"32-true", "bf16-mixed"}
