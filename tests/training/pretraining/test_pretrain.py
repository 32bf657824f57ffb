"""Pre-training on small images: broken runs, collapse, what it leaves."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taxonomist.inference.embedder import Embedder
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import DamagedError, StorageError, TrainingError
from taxonomist.training.pretraining.pretrain import (
    Interrupted,
    PretrainingResult,
    pretrain,
    publish_pretrained,
)
from taxonomist.training.pretraining.probe import held_out_score
from taxonomist.training.pretraining.recipe import Precision
from tests.soak.small_disk import filled, small_disk
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE, losses, probe, stopped, train_on_one_thread

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_a_broken_run_ends_as_the_unbroken_one(small: None, unbroken: PretrainingResult, tmp_path: Path) -> None:
    for patience in (5, 6):
        stopped(tmp_path, patience, probe=probe())
    done = pretrain(small_images(), RECIPE, tmp_path, probe=probe(), device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)
    assert [step for step, _ in losses(tmp_path)] == [4, 8, 12, 16]
    assert done.weights.read_bytes() == unbroken.weights.read_bytes()
    assert done.summary["seen"] == 256


def test_sigterm_ends_it_within_a_step(small: None, unbroken: PretrainingResult, tmp_path: Path) -> None:
    calls = []

    def terminate() -> bool:
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGTERM)
        return False

    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with pytest.raises(Interrupted):
            pretrain(small_images(), RECIPE, tmp_path, probe=probe(), device="cpu", should_stop=terminate)
        assert len(calls) in {6, 7}
        assert received == [signal.SIGTERM]  # the former handler is called
        signal.raise_signal(signal.SIGTERM)
        assert len(received) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    pretrain(small_images(), RECIPE, tmp_path, probe=probe(), device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)


def test_a_full_disk_leaves_the_former_checkpoint(small: None, unbroken: PretrainingResult, tmp_path: Path) -> None:
    stopped(tmp_path, 5)
    former = (tmp_path / "last.ckpt").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(former) // 2, before[1]))
    try:
        with pytest.raises(StorageError, match="room"):
            pretrain(small_images(), RECIPE, tmp_path, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "last.ckpt").read_bytes() == former
    assert not list(tmp_path.glob(".*"))
    pretrain(small_images(), RECIPE, tmp_path, device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)


def test_no_room_for_tensorboard_stops_nothing(
    small: None, unbroken: PretrainingResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "run" / "tensorboard", megabytes=1) as mounted:
        if not mounted:
            pytest.skip("only root can mount a file system, and not in every container")
        stopped(tmp_path / "run", 1, probe=probe())
        with filled(tmp_path / "run" / "tensorboard"):
            pretrain(small_images(), RECIPE, tmp_path / "run", probe=probe(), device="cpu")
    assert losses(tmp_path / "run") == losses(unbroken.folder)
    assert "TensorBoard's events of step 16 could not be written: No space left on device" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    small: None, unbroken: PretrainingResult, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    stopped(tmp_path, 9, checkpoint_interval=0.0)
    last = tmp_path / "last.ckpt"
    data = bytearray(last.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    last.write_bytes(data)
    stopped(tmp_path, 1)  # before the next checkpoint
    assert "last.ckpt is damaged" in caplog.text
    pretrain(small_images(), RECIPE, tmp_path, device="cpu")
    assert losses(tmp_path) == losses(unbroken.folder)


def test_without_a_whole_checkpoint_it_says_so(small: None, tmp_path: Path) -> None:
    stopped(tmp_path, 5)
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(DamagedError, match="begins again"):
        pretrain(small_images(), RECIPE, tmp_path, device="cpu")


@pytest.mark.slow
def test_a_killed_run_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    unbroken = pretrain(small_images(), RECIPE, tmp_path / "unbroken", probe=probe(), device="cpu")
    folder = tmp_path / "killed"
    folder.mkdir()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([train_on_one_thread.__module__])  # so that only the first one waits for torch
    random = np.random.default_rng(3)
    kills = 0
    while kills < 6 or not (folder / "last.ckpt").exists():  # on a busy machine none may have come as far as that
        kills += 1
        began = processes.Event()
        child = processes.Process(target=train_on_one_thread, args=(folder, began))
        child.start()
        assert began.wait(120)
        time.sleep(float(random.uniform(0.5, 3)) * max(1, kills - 5))
        child.kill()
        child.join()
    pretrain(small_images(), RECIPE, folder, probe=probe(), device="cpu")
    assert losses(folder) == losses(unbroken.folder)
    assert (folder / "best.safetensors").read_bytes() == unbroken.weights.read_bytes()


def test_a_finished_run_is_not_run_again(unbroken: PretrainingResult) -> None:
    before = (unbroken.folder / "last.ckpt").stat().st_mtime_ns
    again = pretrain(small_images(), RECIPE, unbroken.folder, probe=probe(), device="cpu")
    assert again.summary == json.loads(json.dumps(unbroken.summary))
    assert (unbroken.folder / "last.ckpt").stat().st_mtime_ns == before


def test_another_recipe_begins_anew(small: None, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    first = pretrain(small_images(), recipe, tmp_path, device="cpu")
    other = pretrain(small_images(), replace(recipe, seed=1), tmp_path, device="cpu")
    assert other.summary["loss"] != first.summary["loss"]
    assert losses(tmp_path) == [(4, other.summary["loss"])]


def test_selected_rows_of_a_file_are_as_a_copy_of_them(
    small: None, unbroken: PretrainingResult, tmp_path: Path
) -> None:
    rows = np.random.default_rng(1).permutation(100)[:64]
    stored = np.memmap(tmp_path / "images.u8", np.uint8, "w+", shape=(100, 24, 24, 3))
    stored[rows] = small_images()
    # The others would be noticed: they are of one colour.
    chosen = pretrain(stored, RECIPE, tmp_path / "run", rows=rows, probe=probe(), device="cpu")
    assert losses(chosen.folder) == losses(unbroken.folder)
    assert chosen.summary["data"]["count"] == 64
    again = pretrain(stored, replace(RECIPE, epochs=1), tmp_path / "run", rows=rows[::-1], device="cpu")
    assert again.summary["data"] != chosen.summary["data"]
    with pytest.raises(TrainingError, match=r"0\.\.63"):
        pretrain(small_images(), RECIPE, tmp_path / "run", rows=rows, device="cpu")


def test_what_it_leaves(unbroken: PretrainingResult) -> None:
    assert {path.name for path in unbroken.folder.iterdir()} == {
        *("run.json", "summary.json", "last.ckpt", "best.safetensors"),
        *("curves.csv", "loss.png", "tensorboard"),
    }
    assert list((unbroken.folder / "tensorboard").glob("events*"))


@pytest.mark.slow
def test_what_is_published(tmp_path: Path) -> None:
    done = pretrain(small_images(), RECIPE, tmp_path / "run", probe=probe(), device="cpu")
    version = publish_pretrained(FolderRegistry(tmp_path / "models"), done, 24)
    assert {"backbone.onnx", "backbone.safetensors", "curves.csv", "loss.png"} <= set(version.files)
    summary = version.backbone_manifest.pretraining
    assert summary is not None
    assert summary.data is not None
    assert summary.recipe["batch"] == 16
    assert summary.data.count == 64
    assert version.backbone_manifest.origin == "MoCo v2, 256 images seen, from random, seed 0"
    # The published network is the query encoder of the best moment, as the probe saw it.
    served = Embedder(version.path / "backbone.onnx").embed(small_images())
    assert held_out_score(torch.from_numpy(served), probe()) == pytest.approx(done.summary["score"], abs=0.05)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few"):
        pretrain(small_images(8), RECIPE, tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1 GPUs are requested"):
        pretrain(small_images(), RECIPE, tmp_path, device="cuda")


@pytest.mark.parametrize(("size", "precision"), [(16, "32-true"), (24, "bf16-mixed")])
def test_the_smallest_views_are_not_trained_in_half_precision(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, precision: str
) -> None:
    monkeypatch.setattr("taxonomist.training.pretraining.pretrain.choose_precision", lambda device: "bf16-mixed")
    done = pretrain(small_images(), replace(RECIPE, size=size, epochs=1), tmp_path, probe=probe(), device="cpu")
    assert done.summary["precision"] == precision


def test_the_hint_of_too_few_images_names_a_preset_that_fits(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"128 are needed. Or use --preset default, which trains in batches of 64"):
        pretrain(small_images().repeat(2, 0)[:100], replace(RECIPE, batch=128), tmp_path, device="cpu")
    with pytest.raises(TrainingError, match=r"Add images: 64 are needed\.$"):
        pretrain(small_images()[:20], replace(RECIPE, batch=64), tmp_path, device="cpu")


@pytest.mark.parametrize(("precision", "number_format"), [("32", "32-true"), ("bf16", "bf16-mixed")])
def test_the_number_format_can_be_fixed(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, number_format: str
) -> None:
    """Two trainings with the same seed give the same backbone, whatever a stopwatch would say."""
    recipe = replace(RECIPE, size=24, epochs=1)
    weights = []
    for measured in ("32-true", "bf16-mixed"):
        monkeypatch.setattr("taxonomist.training.pretraining.pretrain.choose_precision", lambda device: measured)  # noqa: B023
        done = pretrain(small_images(), recipe, tmp_path / measured, device="cpu", precision=precision)
        assert done.summary["precision"] == number_format
        weights.append(done.weights.read_bytes())
    assert weights[0] == weights[1]


def test_the_choice_of_the_number_format_is_said_and_kept(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    choices = iter(["32-true"])
    monkeypatch.setattr("taxonomist.training.pretraining.pretrain.choose_precision", lambda device: next(choices))
    monkeypatch.setattr("taxonomist.training.pretraining.pretrain._MIN_BFLOAT16_SIZE", 8)
    stopped(tmp_path, 5)
    assert "the number format of the training is 32-true" in caplog.text
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "32-true"
    done = pretrain(small_images(), RECIPE, tmp_path, device="cpu", precision="bf16")
    assert done.summary["precision"] == "32-true"
    assert "keeps its number format, 32-true; bf16-mixed counts for the next one" in caplog.text


def test_bfloat16_is_refused_where_it_breaks(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--precision 32"):
        pretrain(small_images(), RECIPE, tmp_path, device="cpu", precision="bf16")
