"""The steps of the pipeline, run as Azure ML does it: the commands of the files in the code snapshot, each with its own
home, on Azurite and a Cosmos DB emulator. Pre-training runs as on two machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from azure.storage.blob import BlobServiceClient

import emulators
from taxonomist.backend.azure import ml_job
from taxonomist.backend.azure.accounts import cosmos_access
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.cosmos_install import install
from tests.small_world import CONFIG, PATHS, SIZE, image_bytes, publish_backbone

IMAGES = 48
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def settings(tmp_path: Path, azurite: emulators.Blob, cosmos_server: emulators.Cosmos) -> Settings:
    """Return settings of the machine that submits the job, with keys, because emulators do not support Entra ID."""
    return Settings(
        home=tmp_path / "home",
        cosmos_connection_string=cosmos_server.connection_string,
        cosmos_database=uuid4().hex,
        blob_connection_string=azurite.connection_string,
        models_container=uuid4().hex,
        min_annotators=1,
    )


@pytest.fixture
def services(settings: Settings, azurite: emulators.Blob, tmp_path: Path) -> Any:
    """A project "7" whose labelled images are blobs; one of them shows a person."""
    container = uuid4().hex
    with BlobServiceClient.from_connection_string(azurite.connection_string, api_version="2026-06-06") as client:
        client.create_container(container)
        for number in range(IMAGES):
            data = image_bytes(PATHS[number % len(PATHS)], number)
            client.get_blob_client(container, f"{number}.jpg").upload_blob(data)
    install(cosmos_access(settings))
    export = tmp_path / "export.json"
    export.write_text(json.dumps([task(container, number) for number in range(IMAGES)]))
    (tmp_path / "config.xml").write_text(CONFIG)
    words = ["import", str(export), "--project", "7", "--config", str(tmp_path / "config.xml")]
    run(["taxonomist", *words], tmp_path / "import", environment(settings) | {"TAXONOMIST_HOME": str(settings.home)})
    services = Services(settings)
    publish_backbone(services)
    services.catalog.update(
        next(iter(services.catalog.documents("7"))).id,
        lambda document: document.model_copy(update={"face_rects": [[1, 2, 3, 4]]}),
    )
    yield services
    services.close()
    services.catalog.close()
    services.blob_account.close()


def task(container: str, number: int) -> dict[str, Any]:
    """Return a task of a Label Studio export, labelled by one person."""
    path = list(PATHS[number % len(PATHS)])
    result = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}
    annotation = {"id": number + 1, "completed_by": 1, "result": [result], "updated_at": "2024-05-01T10:00:00Z"}
    data = {"image": f"azure-blob://{container}/{number}.jpg"}
    return {"id": number + 1, "project": 7, "data": data, "annotations": [annotation]}


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that `submit` sets, with the emulators' keys instead of an identity."""
    assert settings.cosmos_connection_string is not None
    assert settings.blob_connection_string is not None
    return {
        "TAXONOMIST_COSMOS_CONNECTION_STRING": settings.cosmos_connection_string.get_secret_value(),
        "TAXONOMIST_COSMOS_DATABASE": settings.cosmos_database,
        "TAXONOMIST_BLOB_CONNECTION_STRING": settings.blob_connection_string.get_secret_value(),
        "TAXONOMIST_MODELS_CONTAINER": settings.models_container or "",
        "TAXONOMIST_MIN_ANNOTATORS": "1",
        "TAXONOMIST_HEAD_EPOCHS": "5",
        "TAXONOMIST_VIEWS": "0",
        "TAXONOMIST_PRETRAIN_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }


def start(command: list[str], folder: Path, variables: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[str]:
    """Start a command as on a separate machine: with an empty home, and the command of the image first on PATH."""
    image = folder / "image"
    image.mkdir(parents=True)
    shutil.copy(ml_job.SOURCE / ml_job.PIPELINE.parent / "environment" / "taxonomist", image)
    (image / "taxonomist").chmod(0o755)  # as in the Dockerfile
    own = {
        "PATH": f"{image}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TAXONOMIST_HOME": str(folder / "home"),
        **variables,
    }
    return subprocess.Popen(
        command,
        cwd=cwd or ml_job.SOURCE,
        env={"HOME": str(folder), **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(command: list[str], folder: Path, variables: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a command that must succeed; return its output."""
    return finish(start(command, folder, variables, cwd))


def finish(process: subprocess.Popen[str]) -> str:
    try:
        text = process.communicate(timeout=240)[0]
    finally:
        process.kill()
    assert process.returncode == 0, text
    return text


def test_from_documents_to_a_backbone_with_a_head(services: Services, settings: Settings, tmp_path: Path) -> None:
    projects = ml_job.write_projects(services.projects, tmp_path / "projects")
    pipeline = ml_job.copy_source(ml_job.SOURCE, tmp_path / "snapshot")
    options = ml_job.JobOptions("cpu", "gpu", 2, 1, query="--include Warm --include Cold", preset="smoke", size=SIZE)
    job = yaml.safe_load(ml_job.as_yaml(ml_job.build_job(pipeline, projects, {}, options)))
    folders = {
        "parent.inputs.projects": str(projects),
        "parent.inputs.size": str(SIZE),
        "parent.inputs.preset": "smoke",
    }

    def command(step: str) -> list[str]:
        node = job["jobs"][step]
        text = node["component"]["command"]
        for name, value in node.get("inputs", {}).items():
            given = value["path"] if isinstance(value, dict) else str(value)
            text = text.replace(f"${{{{inputs.{name}}}}}", folders.get(given.strip("${}"), given))
        for name in node["component"].get("outputs", {}):
            out = folders[f"parent.jobs.{step}.outputs.{name}"] = str(tmp_path / "outputs" / step / name)
            Path(out).mkdir(parents=True)
            text = text.replace(f"${{{{outputs.{name}}}}}", out)
        optional = [part for part in text.split("$[[") if "]]" in part]
        for part in optional:
            inside = part.split("]]")[0]
            text = text.replace(f"$[[{inside}]]", "" if "${{" in inside else inside)
        assert "${{" not in text
        return ["sh", "-c", text]

    variables, snapshot = environment(settings), tmp_path / "snapshot"
    run(command("query"), tmp_path / "query", variables, snapshot)
    run(command("fetch"), tmp_path / "fetch", variables, snapshot)

    words, port = command("pretrain"), str(emulators.free_port())
    team = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        start(words, tmp_path / f"gpu{rank}", {**variables, **team, "RANK": rank, "NODE_RANK": rank}, snapshot)
        for rank in ("0", "1")
    ]
    outputs = [finish(process) for process in started]
    assert "Backbone v2 is a candidate" in outputs[0]
    assert "has taken part in the training" in outputs[1]

    train_output = run(command("train"), tmp_path / "train", variables, snapshot)
    assert "Backbone v2" in train_output

    server = Services(settings.model_copy(update={"home": tmp_path / "server"}))
    try:
        pretraining = server.registry.get("backbone", "v2").backbone_manifest.pretraining
        assert pretraining is not None
        assert pretraining.data is not None
        assert pretraining.data.count == IMAGES - 1  # without the one of a person
        assert pretraining.device.startswith("2 x ")
        (head,) = server.registry.versions("project-7")
        assert head.head_manifest.backbone == "v2"
        assert len(server.embeddings("v2")) >= IMAGES - 1  # shared with the server
    finally:
        server.close()
        server.blob_account.close()
    labelled = list(services.catalog.documents("7", labelled=True))
    assert len(labelled) == IMAGES  # the steps have no journal and removed no label
