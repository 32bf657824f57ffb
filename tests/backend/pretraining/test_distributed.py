"""`taxonomist pretrain` as two processes that Azure ML starts on two machines, and the next step of the pipeline."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from taxonomist.backend.pretraining import distributed
from taxonomist.backend.pretraining.adopt import read_report
from taxonomist.backend.pretraining.dataset import RunData
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store
from taxonomist.backend.pretraining.state import PretrainRequest, Run
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import DamagedError, NotFoundError
from tests.small_world import SIZE

ROOT = Path(__file__).resolve().parents[3]


def fetched(services: Services, folder: Path) -> Path:
    """Return the prepared images of the catalogue in a folder of their own, as the stage `fetch` leaves them."""
    prepare_all(services, SIZE)
    store = services.settings.home / "pictures" / str(SIZE)
    assert len(prepared_image_store(services, SIZE)) == 80
    shutil.move(store, folder)
    return folder


def start_machine(number: int, home: Path, port: int, *arguments: str) -> subprocess.Popen[str]:
    """Start one process of two machines with only the variables that Azure ML documents."""
    ours = {
        "RANK": str(number),
        "NODE_RANK": str(number),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TAXONOMIST_HOME": str(home),
        "TAXONOMIST_IMAGE_SIZE": str(SIZE),
        "TAXONOMIST_HEAD_EPOCHS": "10",
        "TAXONOMIST_VIEWS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "taxonomist", *arguments],
        cwd=ROOT,
        env={**os.environ, **ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(poor: Services, folder: Path, *arguments: str) -> list[tuple[int, str, str]]:
    """Return exit code, output and errors of both processes; the second one has an empty home of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = (poor.settings.home, folder / "other home")
    started = [start_machine(number, home, port, *arguments) for number, home in enumerate(homes)]
    try:
        outputs = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


@pytest.mark.slow
def test_two_machines_train_one_backbone_and_the_next_step_adopts_it(poor: Services, tmp_path: Path) -> None:
    prepared = fetched(poor, tmp_path / "fetched")
    options = ["--preset", "smoke", "--device", "cpu", "--no-adopt", "--prepared", str(prepared)]
    first, second = together(poor, tmp_path, "pretrain", *options, "--out", str(tmp_path / "report"))
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "Backbone v2 is a candidate" in first[1]
    assert "Process 2 of 2 has taken part in the training." in second[1]
    assert not (tmp_path / "other home" / "catalog.sqlite").exists()  # it gets everything from the first process
    version = poor.registry.get("backbone", "v2")
    summary = version.backbone_manifest.pretraining
    assert summary is not None
    assert summary.data is not None
    assert summary.device.startswith("2 x CPU")
    tested = sum(document.projects["7"].part == "test" for document in poor.catalog.documents())
    assert summary.data.count == 80 - tested
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"pretrained.json", "curves.csv", "loss.png"}

    alone = [sys.executable, "-m", "taxonomist", "--home", str(poor.settings.home), "backbone", "adopt"]
    report = ["--pretrained", str(tmp_path / "report"), "--pictures", str(prepared)]  # the former name of --prepared
    done = subprocess.run([*alone, *report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Backbone v2 ")
    assert len(poor.registry.versions("project-7")) == 2


@pytest.mark.slow
def test_when_the_first_cannot_begin_the_others_end(poor: Services, tmp_path: Path) -> None:
    empty = ["pretrain", "--preset", "smoke", "--device", "cpu", "--prepared", str(tmp_path / "nothing")]
    first, second = together(poor, tmp_path, *empty)
    assert first[0] != 0
    assert "0 images are too few" in first[2]
    assert second[0] != 0
    assert "0 images are too few" in second[2]

    unknown = ["pretrain", "--preset", "no such preset", "--device", "cpu", "--fresh"]
    first, second = together(poor, tmp_path, *unknown)
    assert first[0] == 2
    assert second[0] == 0
    assert "nothing to train on" in second[1]


def test_another_machine_needs_no_file_of_start_weights(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(distributed, "train", lambda services, current, *rest: used.append(current.recipe["weights"]))
    here = tmp_path / "backbone-v1.safetensors"
    here.touch()
    for weights in ("starter", str(here), str(tmp_path / "backbone-v2.safetensors")):
        current = Run(preset="cpu", recipe={"weights": weights}, size=SIZE)
        plan = distributed.TrainingPlan(run=current, data=RunData(ids=[]))
        group = SimpleNamespace(rank=1, world_size=2, broadcast_bytes=plan.model_dump_json)
        distributed._join_training(services, PretrainRequest(), group, lambda: False)  # type: ignore[arg-type]
    assert used == ["starter", str(here), "random"]


def test_a_file_that_is_not_a_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no .*pretrained\.json"):
        read_report(tmp_path)
    (tmp_path / "pretrained.json").write_text("[]")
    with pytest.raises(DamagedError):
        read_report(tmp_path)
