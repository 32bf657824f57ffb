"""The adapter under the real label-studio-ml 1.0.9, as a real process, connected to a real Label Studio.

Its environment has no torch. The state that it serves is made here; no worker runs, so what it asked for stays to be
seen. 2.x cannot be installed from PyPI: tests/backend/web/test_label_studio_ml.py has its interface.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.environment import silent
from taxonomist.backend.demo.project import CATALOGUE, CONTROL, CatalogueImage, DemoTask, label_config
from taxonomist.backend.demo.server import HOST, LabelStudioServer
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobKind
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject, annotation, next_task
from tests.environment import label_studio_ml
from tests.small_world import publish_backbone
from tests.waiting import eventually


@dataclass
class AdapterProcess(BackendProcess):
    """The adapter, started with the python of label-studio-ml's environment."""

    command_line: tuple[str, ...] = ()

    def start(self) -> AdapterProcess:
        path = f"{Path(self.command_line[0]).parent}{os.pathsep}{os.environ['PATH']}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command_line,
                cwd=self.home,
                env=self.environment | {"PATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually("the adapter answers /health", self._answers, timeout=60)
        return self


@pytest.fixture
def connected(
    label_studio: LabelStudioServer,
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    tmp_path: Path,
    make_project: MakeProject,
) -> Iterator[Callable[..., Scene]]:
    """Makes a project of four tasks with a trained model, and connects the adapter started by that command line."""
    started: list[AdapterProcess] = []

    def connect(command_line: Callable[[Path, int], tuple[str, ...]]) -> Scene:
        project, tasks = make_project("Under label-studio-ml", catalogue[::130])
        settings = {"label_studio_url": label_studio.url, "label_studio_api_key": label_studio.owner.token}
        home = tmp_path / "home"
        services = prepare(home, str(project), catalogue, **settings)
        process = AdapterProcess(home, settings)
        process.command_line = command_line(home, process.port)
        started.append(process.start())
        row = checked(owner.post("/api/ml", json={"project": project, "url": process.url, "title": "adapter"})).json()
        return Scene(owner, process, services, project, tasks, row)

    yield connect
    for process in started:
        process.stop()


def prepare(home: Path, project: str, catalogue: tuple[CatalogueImage, ...], **settings: str) -> Services:
    """Return a home folder whose champion knows the catalogue; every suggestion is shown, however unsure."""
    key = SecretStr(settings["label_studio_api_key"])
    url = settings["label_studio_url"]
    services = Services(
        Settings(
            home=home,
            label_studio_url=url,
            label_studio_api_key=key,
            head="mlp",  # suggests something, however poor it is
            views=0,
            target_precision=0.02,
            blind_share=0,
        )
    )
    publish_backbone(services)
    services.projects.update(project, label_config=label_config(picture.path for picture in catalogue))
    import_manifest(services, CATALOGUE / "manifest.csv", project)
    train(services, project, lambda step, share: None)
    return services


@dataclass
class Scene:
    """The parts of the scenario, and questions to them."""

    owner: httpx.Client
    process: AdapterProcess
    services: Services
    project: int
    tasks: tuple[DemoTask, ...]
    row: dict[str, Any]

    def open(self, task: DemoTask) -> dict[str, Any]:
        """Return the task as the labelling screen receives it."""
        body: dict[str, Any] = checked(self.owner.get(f"/api/tasks/{task.id}/")).json()
        return body

    def expected(self, task: DemoTask) -> list[dict[str, Any]]:
        """Return the result of the model in this process."""
        tasks = [{"id": task.id, "data": {"image": task.uri}}]
        config = self.services.projects.get(str(self.project)).label_config
        body = {"tasks": tasks, "project": self.project, "label_config": config}
        (answer,) = Predictor(self.services).predict(parse_predict(body))
        assert answer["result"], "the test needs a model that suggests something"
        result: list[dict[str, Any]] = answer["result"]
        return result

    def annotate(self, person: Account, task: DemoTask) -> int:
        url = str(self.owner.base_url)
        with person.client(url) as client:
            answer = checked(client.post(f"/api/tasks/{task.id}/annotations/", json=annotation(task.image)))
        return int(answer.json()["id"])

    def journal(self) -> dict[str, Any]:
        """Return the annotations of Label Studio that reached the journal, by id, without the imported ones."""
        self.services.journal.fold()
        records = self.services.journal.annotations(str(self.project))
        return {record.annotation_id: record for record in records if "/data/upload/" in record.uri}

    def trainings(self) -> list[str]:
        return [job.project for job in self.services.jobs.waiting() if job.kind is JobKind.TRAIN]


def our_way(home: Path, port: int) -> tuple[str, ...]:
    return (str(label_studio_ml(silent)), "-m", "taxonomist.backend.web.label_studio_ml", "--port", str(port))


def their_way(home: Path, port: int) -> tuple[str, ...]:
    """`label-studio-ml init` and `start`, as 1.x's own documentation has it."""
    program = str(label_studio_ml(silent).with_name("label-studio-ml"))
    (home / "model.py").write_text("from taxonomist.backend.web.label_studio_ml import TaxonomistModel\n")
    subprocess.run(
        [program, "init", "mine", "--script", "model.py:TaxonomistModel"], cwd=home, check=True, capture_output=True
    )
    return (program, "start", "mine", "--host", HOST, "--port", str(port))


def test_started_by_us(connected: Callable[..., Scene], annotators: list[Account]) -> None:
    scene = connected(our_way)
    assert (scene.row["state"], scene.row["model_version"]) == ("CO", "taxonomist-v1")
    task = scene.tasks[0]
    assert_prefilled(scene, task, "taxonomist-v1")

    first = scene.annotate(annotators[0], task)
    second = scene.annotate(annotators[1], task)
    kept = scene.journal()  # there as soon as Label Studio has its answer
    assert set(kept) == {str(first), str(second)}
    assert kept[str(first)].data["result"][0]["value"] == {"taxonomy": [list(task.image.path)]}
    assert kept[str(first)].data["result"][0]["from_name"] == CONTROL
    checked(scene.owner.delete(f"/api/annotations/{second}/"))
    assert set(scene.journal()) == {str(first)}
    assert scene.trainings() == []

    # An annotation is no new model: nothing is predicted twice.
    assert_prefilled(scene, task, "taxonomist-v1")
    checked(scene.owner.post(f"/api/ml/{scene.row['id']}/train"))
    assert scene.trainings() == [str(scene.project)]
    assert "Traceback" not in scene.process.said(1000)


def test_started_by_the_framework(connected: Callable[..., Scene], annotators: list[Account]) -> None:
    """Each webhook is a job in a process of its own; the version is INITIAL before the first, then the true one."""
    scene = connected(their_way)
    assert (scene.row["state"], scene.row["model_version"]) == ("CO", "INITIAL")
    assert_prefilled(scene, scene.tasks[0], "INITIAL")

    made = scene.annotate(annotators[0], scene.tasks[0])
    eventually(f"the journal has it\n{scene.process.said()}", lambda: set(scene.journal()) == {str(made)})
    checked(scene.owner.delete(f"/api/annotations/{made}/"))
    eventually(f"the journal has its deletion\n{scene.process.said()}", lambda: scene.journal() == {})
    checked(scene.owner.post(f"/api/ml/{scene.row['id']}/train"))
    eventually(f"a training is asked for\n{scene.process.said()}", lambda: scene.trainings() == [str(scene.project)])

    jobs = [folder for folder in (scene.process.home / "mine").iterdir() if folder.name.isdecimal()]
    eventually("every job has ended", lambda: all((folder / "job_result.json").exists() for folder in jobs))
    assert_prefilled(scene, scene.tasks[1], "taxonomist-v1")


def assert_prefilled(scene: Scene, task: DemoTask, version: str) -> None:
    """Opened twice, the task has the model's suggestion, once; so has a task that the stream offers twice."""
    expected = scene.expected(task)
    for _ in range(2):
        (prediction,) = scene.open(task)["predictions"]
        assert prediction["result"] == expected, scene.process.said()
        assert prediction["model_version"] == version
        assert 0 <= prediction["score"] <= 1
    offered = next_task(scene.owner, scene.project)["id"]
    assert next_task(scene.owner, scene.project)["id"] == offered
    versions = [prediction["model_version"] for prediction in predictions_of(scene, offered)]
    assert versions.count(version) == 1, versions


def predictions_of(scene: Scene, task: int) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = checked(scene.owner.get(f"/api/tasks/{task}/")).json()["predictions"]
    return predictions
