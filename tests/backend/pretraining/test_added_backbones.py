"""`taxonomist backbone add`: the worker adopts what is added and the gate decides; what is refused leaves nothing."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from onnx import helper, numpy_helper

from taxonomist.backend.cli import main
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.pretraining.job import run_job
from taxonomist.backend.pretraining.state import StopSignal, versions_waiting
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import FOLDER, WEIGHTS_FILE
from taxonomist.storage.registry.manifests import NEAR_DISTANCE
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.present import present
from tests.training.backbones.added.graphs import SIZE, write_network, write_network_with_external_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


def command(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Run `taxonomist backbone …`; return exit code, standard output and standard error in one line each."""
    options = ["--home", str(services.settings.home), "backbone", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", ["taxonomist", *options])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), " ".join(out.split()), " ".join(err.split())


@pytest.fixture
def run(poor: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: command(poor, monkeypatch, capsys, *arguments)


def work(services: Services) -> Job:
    """Run the waiting job as the worker's process does, and return how it ended."""
    (job,) = [job for job in services.jobs.waiting() if job.kind is JobKind.ADOPT]
    services.jobs.start(job.id)
    assert run_job(services, job.id, StopSignal())
    return present(services.jobs.get(job.id))


def test_a_file_wins_by_the_gate_and_is_rolled_back(run: Run, poor: Services, tmp_path: Path) -> None:
    """The champion is blind to colours; the file averages them."""
    file = write_network(tmp_path / "cells.onnx")
    code, out, err = run("add", file, "--mean", "0.5", "--std", "0.5,0.25,0.2", "--allow-slow")
    assert code == 0, err
    for shown in ("32 pixels", "48 numbers", "0.0 MB", "ms per image on this machine (the champion: ", "not known"):
        assert shown in out
    assert "It is backbone v2, a candidate" in out
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    job = work(poor)
    assert job.state is JobState.DONE
    assert job.outcome.startswith("Backbone v2 is served now, with taxonomist-v2 of project 7. It is better:")
    assert versions_waiting(poor.home) == []
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v2"}
    assert run("rollback")[0] == 0
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}


def test_the_worker_does_not_adopt_again_what_a_person_has_adopted(run: Run, poor: Services, tmp_path: Path) -> None:
    assert run("add", write_network(tmp_path / "cells.onnx"), "--allow-slow")[0] == 0
    assert "Backbone v2 is served now" in run("adopt", "v2")[1]
    assert run("rollback")[0] == 0
    assert work(poor).outcome == "No backbone waits for its adoption."
    assert poor.registry.champion(BACKBONE) == "v1"


def test_backbones_that_are_added_while_another_waits_are_adopted_too(run: Run, poor: Services, tmp_path: Path) -> None:
    file = write_network(tmp_path / "cells.onnx")
    found = [json.loads(run("add", file, "--allow-slow", "--json")[1]) for _ in range(2)]
    assert [row["version"] for row in found] == versions_waiting(poor.home) == ["v2", "v3"]
    shutil.rmtree(poor.registry.get(BACKBONE, "v2").path)
    outcome = work(poor).outcome
    assert 'Backbone v2 is not adopted: There is no version "v2"' in outcome
    assert "Backbone v3 is served now" in outcome


@pytest.fixture
def furniture(tmp_path: Path) -> Services:
    """Two views of each product of the demo's catalogue, embedded by a random ResNet18."""
    catalogue = ROOT / "backend" / "demo" / "catalogue"
    with (catalogue / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    views = Counter[str]()
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        manifest = csv.writer(file)
        manifest.writerow(["file", "level1", "product"])
        for row in rows:
            views[row["product"]] += 1
            if views[row["product"]] <= 2:
                manifest.writerow([row[name] for name in ("file", "level1", "product")])
    services = Services(Settings(home=tmp_path / "home", views=0))
    ensure_backbone(services.registry, BackboneSpec("resnet18", "random", size=64))
    import_manifest(services, tmp_path / "manifest.csv", "7", images=catalogue / "images")
    train(services, "7", lambda step, share: None)
    return services


def test_a_network_of_timm_and_its_file_win_by_the_gate_and_are_rolled_back(
    furniture: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EfficientNet-Lite0 with ImageNet's weights, which ship, against a random ResNet18."""
    before = furniture.registry.champions()

    def adopted(version: str, *arguments: object) -> str:
        code, out, err = command(furniture, monkeypatch, capsys, "add", *arguments, "--json")
        assert code == 0, err
        job = work(furniture)
        assert job.outcome.startswith(f"Backbone {version} is served now"), job.outcome
        assert "It is better: macro-F1" in job.outcome
        assert furniture.registry.champion(BACKBONE) == version
        assert command(furniture, monkeypatch, capsys, "rollback")[0] == 0
        assert furniture.registry.champions() == before
        return str(json.loads(out)["number_format"])

    weights = FOLDER / WEIGHTS_FILE
    number_format = adopted("v2", "timm:tf_efficientnet_lite0", "--size", 64, "--weights", weights, "--allow-slow")
    assert "of 74 images" in number_format
    manifest = furniture.registry.get(BACKBONE, "v2").backbone_manifest
    assert (manifest.architecture, manifest.size, manifest.dimension) == ("efficientnet_lite0", 64, 1280)
    assert manifest.near_distance > NEAR_DISTANCE  # copies of an image are far from it in this space
    file = shutil.copyfile(FOLDER / BACKBONE_FILE, tmp_path / "lite0.onnx")
    adopted("v3", file, "--allow-slow")


def _slow(path: Path) -> Path:
    """Write a network of 150 million multiplications for an image."""
    nodes = [
        helper.make_node(
            "Constant", [], ["kernel"], value=numpy_helper.from_array(np.ones((1024, 3, 7, 7), np.float32))
        ),
        helper.make_node("Conv", ["images", "kernel"], ["wide"], pads=[3, 3, 3, 3]),
        helper.make_node("ReduceMean", ["wide"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["grey", "grey", "grey"], ["three"], axis=1),
        helper.make_node("AveragePool", ["three"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "shape"], ["embedding"]),
    ]
    return write_network(path, nodes=nodes)


def _weights(path: Path, name: str = "test_efficientnet") -> Path:
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model(name).state_dict(), path)
    return path


def _pickled(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"conv_stem.weight": [1.0]}))
    return path


REFUSED: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "wrong name": (lambda folder: ["timm:test_eficientnet"], "Similar names: test_efficientnet"),
    "no file": (lambda folder: [folder / "nothing.onnx"], "There is no file"),
    "wrong input shape": (
        lambda folder: [write_network(folder / "file.onnx", takes=("n", 1, SIZE, SIZE))],
        "its input images is float (?, 1, 32, 32)",
    ),
    "a pickle as a network": (lambda folder: [_pickled(folder / "file.onnx")], "a pickle, which may run code"),
    "a pickle as weights": (
        lambda folder: ["timm:test_efficientnet", "--weights", _pickled(folder / "weights.pth")],
        "Weights are read from a .safetensors file, not from weights.pth",
    ),
    "a renamed pickle": (
        lambda folder: ["timm:test_efficientnet", "--weights", _pickled(folder / "weights.safetensors")],
        "weights.safetensors cannot be read",
    ),
    "weights that do not fit": (
        lambda folder: ["timm:test_resnet", "--weights", _weights(folder / "weights.safetensors")],
        "The weights do not fit the backbone",
    ),
    "external data": (
        lambda folder: [write_network_with_external_data(folder / "file.onnx")],
        "it keeps weights in another file",
    ),
    "a size": (
        lambda folder: ["timm:test_efficientnet", "--size", "8", "--weights", _weights(folder / "w.safetensors")],
        "Use 32 to 1024 pixels",
    ),
    "a mean": (
        lambda folder: [write_network(folder / "file.onnx"), "--mean", "124,116,104"],
        "--mean is '124,116,104'. Give one number or three from 0 to 1",
    ),
    "too slow": (lambda folder: [_slow(folder / "file.onnx")], "times the champion's"),
}


def kept(home: Path) -> list[Path]:
    """Return what a home has, but for databases, which appear when they are first read."""
    return sorted(path for path in home.rglob("*") if ".sqlite" not in path.name)


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused_leaves_nothing_behind(run: Run, poor: Services, tmp_path: Path, fault: str) -> None:
    arguments, message = REFUSED[fault]
    folder = tmp_path / "given"
    folder.mkdir()
    before = kept(poor.home)
    code, _, err = run("add", *arguments(folder))
    assert code in (2, 5)
    assert message in err
    assert "Traceback" not in err
    assert kept(poor.home) == before
    assert [version.version for version in poor.registry.versions(BACKBONE)] == ["v1"]
    assert JobKind.ADOPT not in {job.kind for job in poor.jobs.waiting()}
