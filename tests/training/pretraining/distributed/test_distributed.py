"""Pre-training in two processes of this machine: the queue, stops, deaths."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.batches import BatchSchedule
from taxonomist.training.pretraining.distributed.exchange import is_wanted
from taxonomist.training.pretraining.distributed.inputs import FOLDER, PretrainingInputs
from taxonomist.training.pretraining.pretrain import Interrupted, PretrainingResult, Status, pretrain
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE, losses, probe

ROOT = Path(__file__).resolve().parents[4]
LONGER = replace(RECIPE, epochs=8)


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> PretrainingResult:
    folder = tmp_path_factory.mktemp("unbroken")
    return pretrain(small_images(), LONGER, folder, probe=probe(), device="cpu", devices=2)


def processes(folder: Path, rank: int | None = None) -> list[int]:
    """Return the ids of the processes that train in this folder, or of the one of that rank."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"taxonomist.training.pretraining.distributed" in command and str(folder).encode() in command:
            of_rank = f"RANK={rank}".encode() in variables.split(b"\0")
            if rank is None or of_rank:
                found.append(int(entry.name))
    return found


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return dict(file)


def wait_until_gone(folder: Path) -> None:
    until = time.monotonic() + 90
    while processes(folder) and time.monotonic() < until:
        time.sleep(0.2)
    assert not processes(folder)


@pytest.mark.parametrize("first", [0, 3])
def test_inputs_come_back(tmp_path: Path, first: int) -> None:
    stored = np.memmap(tmp_path / "images.u8", np.uint8, "w+", shape=(64, 24, 24, 3))
    stored[:] = small_images()
    rows, groups = np.arange(40)[::-1].copy(), np.arange(40) // 3
    recipe = replace(RECIPE, sizes=(8,), views=replace(RECIPE.views, blur=0.1))
    PretrainingInputs(stored[first:50], recipe, rows, groups, probe(), 7.0).write(tmp_path / "a", "cpu")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"inputs.json", "arrays.npz"}  # and no copy
    back, kind = PretrainingInputs.read(tmp_path / "a")
    assert (back.recipe, kind, back.checkpoint_interval) == (recipe, "cpu", 7.0)
    np.testing.assert_array_equal(back.images, small_images()[first:50])
    np.testing.assert_array_equal(back.rows, rows)
    np.testing.assert_array_equal(back.groups, groups)
    assert back.probe is not None
    np.testing.assert_array_equal(back.probe.images, probe().images)
    np.testing.assert_array_equal(back.probe.groups, probe().groups)


@pytest.mark.parametrize("some", [small_images()[5:], np.asfortranarray(small_images()), small_images()[::2]])
def test_images_in_memory_come_back(tmp_path: Path, some: NDArray[Any]) -> None:
    PretrainingInputs(some, RECIPE, None, None, None).write(tmp_path, "cpu")
    back, _ = PretrainingInputs.read(tmp_path)
    np.testing.assert_array_equal(back.images, some)
    assert (back.rows, back.groups, back.probe) == (None, None, None)


def test_nothing_to_train_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to pre-train"):
        PretrainingInputs.read(tmp_path / FOLDER)


@pytest.mark.slow
def test_two_processes_fill_one_queue_as_one_would(tmp_path: Path) -> None:
    """The processes are started with torchrun, as on several machines."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match="torchrun") as interrupted:
        pretrain(small_images(), RECIPE, run, probe=probe(), device="cpu", nodes=2)
    command = shlex.split(str(interrupted.value).split("torchrun ")[1].split(";")[0])
    assert command[:4] == ["--nnodes", "2", "--nproc-per-node", "1"]
    assert command[-3:] == ["-m", "taxonomist.training.pretraining.distributed", str(run)]
    arguments = [
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.training.pretraining.distributed.two_processes",
        str(run),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    finished = pretrain(small_images(), RECIPE, run, probe=probe(), device="cpu")
    assert finished.summary["device"] == "2 x CPU, 1 threads"
    assert finished.summary["score"] > 0.3
    assert all(0 < loss < 10 for _, loss in losses(run))
    assert not (run / FOLDER).exists()
    first, second = (arrays(run / f"queue-{number}.npz") for number in (0, 1))
    for name in ("queue", "queue_ids", "queue_ptr"):
        np.testing.assert_array_equal(first[name], second[name])
    # Both continued from the weights of the first, independent of the weights of the second.
    encoders = [arrays(run / f"encoder-{number}.npz") for number in (0, 1)]
    assert len(encoders[0]) > 10
    for name in encoders[0]:
        np.testing.assert_array_equal(encoders[0][name], encoders[1][name])
    schedule = BatchSchedule(64, RECIPE.batch, RECIPE.seed)
    assert first["queue_ptr"] == 0  # the queue of two batches is full for the eighth time
    assert first["queue_ids"].tolist() == np.concatenate([schedule.rows(step)[0] for step in (14, 15)]).tolist()
    kept = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    np.testing.assert_array_equal(kept["moco.queue"].numpy(), first["queue"])


@pytest.mark.slow
def test_stopped_and_killed_it_ends_as_the_unbroken_one(unbroken: PretrainingResult, tmp_path: Path) -> None:
    statuses: list[Status] = []

    def kill_the_second(status: Status) -> None:
        statuses.append(status)
        if status.step > 4:
            for process in processes(tmp_path, rank=1):
                os.kill(process, signal.SIGKILL)

    options: dict[str, Any] = {"probe": probe(), "device": "cpu", "devices": 2, "checkpoint_interval": 0.0}
    with pytest.raises(TrainingError, match="SIGKILL"):
        pretrain(small_images(), LONGER, tmp_path, on_status=kill_the_second, **options)
    assert not processes(tmp_path)
    assert (tmp_path / "last.ckpt").exists()
    assert 0 < statuses[-1].step < statuses[-1].steps
    statuses.clear()
    with pytest.raises(Interrupted):
        pretrain(
            small_images(), LONGER, tmp_path, on_status=statuses.append, should_stop=lambda: statuses != [], **options
        )
    assert not processes(tmp_path)
    assert statuses[0].step > 4
    done = pretrain(small_images(), LONGER, tmp_path, **options)
    assert losses(tmp_path) == losses(unbroken.folder)
    assert len(losses(tmp_path)) == 8
    assert done.weights.read_bytes() == unbroken.weights.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, sign: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from tests.training.pretraining.small_runs import *\n"
        "try:\n"
        "    pretrain(small_images(), replace(RECIPE, epochs=500), Path(sys.argv[1]), device='cpu', devices=2)\n"
        "except Interrupted:\n"
        "    sys.exit(42)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) as starter:
        until = time.monotonic() + 120
        while not (tmp_path / FOLDER / "status.json").exists() and time.monotonic() < until:
            assert starter.poll() is None
            time.sleep(0.1)
        assert is_wanted(tmp_path / FOLDER)
        assert len(processes(tmp_path)) == 3  # torchrun and its two
        starter.send_signal(sign)
        assert starter.wait(60) == (42 if sign is signal.SIGTERM else -signal.SIGKILL)
    wait_until_gone(tmp_path)


@pytest.mark.slow
def test_what_a_process_raises_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="The loss is not finite after 4 steps") as raised:
        pretrain(small_images(), replace(RECIPE, lr=1e30), tmp_path, device="cpu", devices=2)
    assert "--preset" in str(raised.value.hint)
    with pytest.raises(TrainingError, match="too small for 2"):
        pretrain(small_images(), replace(RECIPE, batch=3), tmp_path, device="cpu", devices=2)
