"""Predictions of old versions in a real Label Studio do not pile up, and no submit breaks; and its sample image."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.project import CatalogueImage
from taxonomist.backend.labelling.acceptance import count_accepted
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.predictor import Predictor
from tests.e2e.in_process import NO_MODEL, MakeProject, Ours, annotation
from tests.small_world import publish_backbone

Stored = list[dict[str, Any]]


class Project:
    """A connected project, whose served version the test sets."""

    def __init__(self, ours: Ours, owner: httpx.Client, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, self.owner, self.number, self._patch = ours, owner, number, monkeypatch
        self.services, self.name = ours.services, str(number)

    def promote(self, *numbers: int) -> str:
        outcome = ""
        for number in numbers:
            version = f"taxonomist-v{number}"
            self._patch.setattr(Predictor, "model_version", lambda _self, _project, version=version: version)
            outcome = push(self.services, self.name, lambda step, share: None)
        return outcome

    def sync(self) -> None:
        sync(self.services, self.name, lambda step, share: None)

    def predictions(self, task: int) -> Stored:
        found: Stored = checked(self.owner.get("/api/predictions/", params={"task": task})).json()
        return found

    def versions(self, task: int) -> list[str]:
        return sorted(found["model_version"].removeprefix("taxonomist-") for found in self.predictions(task))

    def submit(self, person: Account, task: int, image: CatalogueImage, **fields: Any) -> httpx.Response:
        with person.client(self.ours.label_studio.url) as client:
            body = annotation(image) | {"lead_time": 3.5, **fields}
            return client.post(f"/api/tasks/{task}/annotations/", json=body)


def test_old_predictions(
    ours: Ours,
    owner: httpx.Client,
    annotators: list[Account],
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = catalogue[:6]
    number, tasks = make_project("Old predictions", images)
    ours.connect(number, NO_MODEL)
    project = Project(ours, owner, number, monkeypatch)
    for task in tasks[:3]:
        for person in annotators[:2]:
            checked(project.submit(person, task.id, images[0]))
    project.sync()
    backbone = publish_backbone(ours.services).version
    documents = ours.services.catalog.documents(project.name, labelled=True)
    embed(ours.services, project.name, {found.id: found.projects[project.name].uri for found in documents}, backbone)
    opened, drafted, other = (task.id for task in tasks[3:])

    an_open_page(project, annotators[0], opened, images[0])
    a_draft(project, annotators[1], drafted, images[0])
    annotated_tasks(project, annotators, opened, images[0])
    what_label_studio_answers_without_this(project, annotators[2], other, images[0])
    the_sample_of_the_settings(project)


def an_open_page(project: Project, person: Account, task: int, image: CatalogueImage) -> None:
    """Somebody opens a task in the label stream, several versions follow, and then the answer is submitted."""
    project.promote(1)
    (shown,) = project.predictions(task)
    assert shown["result"]
    project.promote(2, 3, 4, 5)
    assert project.versions(task) == ["v4", "v5"]
    assert shown["id"] in [found["id"] for found in project.predictions(task)]
    answer = project.submit(person, task, image, parent_prediction=shown["id"])
    assert answer.status_code == 201, answer.text
    assert answer.json()["parent_prediction"] == shown["id"]


def a_draft(project: Project, person: Account, task: int, image: CatalogueImage) -> None:
    with person.client(project.ours.label_studio.url) as client:
        checked(client.post(f"/api/tasks/{task}/drafts", json=annotation(image) | {"lead_time": 1.0}))
    before = [found["id"] for found in project.predictions(task)]
    project.promote(6, 7)
    kept = project.predictions(task)
    assert project.versions(task) == ["v4", "v5", "v6", "v7"]
    assert [found["id"] for found in kept if found["id"] in before] == before


def annotated_tasks(project: Project, people: list[Account], task: int, image: CatalogueImage) -> None:
    """A task that all have annotated keeps no old version; webhooks brought the journal each annotation's origin."""
    (first, *_) = project.predictions(task)
    checked(project.submit(people[1], task, image, parent_prediction=first["id"]))
    checked(project.submit(people[2], task, image))
    project.promote(8)
    assert project.versions(task) == []
    answer = checked(project.owner.get(f"/api/tasks/{task}/")).json()
    assert {found["parent_prediction"] for found in answer["annotations"]} == {None}
    project.sync()
    source = project.services.projects.get(project.name).source
    records = [r for r in project.services.journal.annotations(project.name, source=source) if r.task_id == str(task)]
    assert sum(record.data["parent_prediction"] is not None for record in records) == 2
    assert sum(found.shown for found in count_accepted(project.services, project.name).values()) == 3


def what_label_studio_answers_without_this(project: Project, person: Account, task: int, image: CatalogueImage) -> None:
    """Why a prediction that may be open is changed in place: Label Studio refuses what comes from a deleted one."""
    (first, *_) = project.predictions(task)
    checked(project.owner.delete(f"/api/predictions/{first['id']}/"))
    answer = project.submit(person, task, image, parent_prediction=first["id"])
    assert answer.status_code == 400
    assert "parent_prediction" in answer.text


def the_sample_of_the_settings(project: Project) -> None:
    """The preview of the labelling config shows Label Studio's sample image, and beside it our look-alike page."""
    services = project.services
    about = checked(project.owner.get(f"/api/projects/{project.number}/")).json()
    body = {"label_config": about["label_config"]}
    sample = checked(project.owner.post(f"/api/projects/{project.number}/sample-task", json=body)).json()["sample_task"]
    uri = (sample.get("data") or sample)["image"]
    assert "/static/samples/" in uri
    documents, events = services.catalog.count(project.name), services.journal.position()
    embeddings = len(services.embeddings("v1"))
    files = sorted((services.home / "images").rglob("*"))
    key = services.credentials.project_key(project.name)
    page = httpx.get(f"{services.settings.url}/similar?project={project.number}&key={key}&src={uri}", trust_env=False)
    assert page.status_code == 200
    assert page.text.count("<img") == 3
    assert (documents, events) == (services.catalog.count(project.name), services.journal.position())
    assert (embeddings, files) == (len(services.embeddings("v1")), sorted((services.home / "images").rglob("*")))
