"""What a real Label Studio does over time: tasks and annotations that change without a webhook, the model's own
annotations, late answers, exports, and another Label Studio in the place of the right one.

One project and one other server serve all of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.fill_predictions import fill
from taxonomist.backend.demo import server
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config, upload
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from tests.e2e.in_process import NO_MODEL, MakeProject, Ours, annotation
from tests.environment import LABEL_STUDIO_CACHE, label_studio_program
from tests.small_world import publish_backbone

Labels = dict[str, Any]
UNCHANGED = "0 missed events, 0 missed deletions"


@dataclass
class Running:
    """A connected project: three tasks that two people labelled alike, and two open ones."""

    ours: Ours
    owner: httpx.Client
    people: list[Account]
    project: int
    tasks: dict[int, str]  # address by task

    @property
    def services(self) -> Services:
        return self.ours.services

    def sync(self) -> str:
        return sync(self.services, str(self.project), lambda step, share: None)

    def labels(self) -> Labels:
        return labels(self.services, self.project)

    def annotate(self, person: Account, task: int, image: CatalogueImage) -> int:
        with person.client(self.ours.label_studio.url) as client:
            answer = client.post(f"/api/tasks/{task}/annotations/", json=annotation(image) | {"lead_time": 3.5})
            return int(checked(answer).json()["id"])

    def act(self, action: str, **body: Any) -> None:
        """Run an action of the Data Manager on all tasks."""
        selected = {"selectedItems": {"all": True, "excluded": []}, **body}
        parameters: dict[str, str | int] = {"id": action, "project": self.project}
        checked(self.owner.post("/api/dm/actions", params=parameters, json=selected, timeout=120))

    def export(self, file: Path) -> Path:
        parameters = {"exportType": "JSON", "download_all_tasks": "true"}
        file.write_bytes(checked(self.owner.get(f"/api/projects/{self.project}/export", params=parameters)).content)
        return file

    def predictions(self, task: int) -> list[bool]:
        """Return whether each prediction of a task suggests something."""
        found = checked(self.owner.get(f"/api/tasks/{task}/")).json()["predictions"]
        return [bool(prediction["result"]) for prediction in found]


def labels(services: Services, project: int) -> Labels:
    """Return the accepted labels by image."""
    services.journal.fold()
    return {
        document.id: document.projects[str(project)].accepted
        for document in services.catalog.documents(str(project), labelled=True)
    }


def test_a_project_over_time(
    ours: Ours,
    owner: httpx.Client,
    annotators: list[Account],
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    tmp_path: Path,
) -> None:
    images = catalogue[:5]
    project, tasks = make_project("Sources", images)
    ours.connect(project, NO_MODEL)
    running = Running(ours, owner, annotators, project, {task.id: task.uri for task in tasks})
    for task in tasks[:3]:
        for person in annotators[:2]:
            running.annotate(person, task.id, images[0])
    running.sync()
    assert len(running.labels()) == 3
    assert running.sync().endswith(UNCHANGED)  # API and webhooks say the same
    skip = {"result": [], "was_cancelled": True}
    checked(owner.post(f"/api/tasks/{tasks[0].id}/annotations/", json=skip))
    assert "7 annotations (1 skipped), " in running.sync()
    assert len(running.labels()) == 3

    late_predictions_are_filled(running, [task.id for task in tasks[3:]])
    duplicates_are_removed(running, catalogue[1])
    an_address_is_corrected(running, tasks[0].id)
    the_own_export_gives_the_same(running, tmp_path)
    predictions_become_annotations(running, catalogue[20])
    another_label_studio(running, images, tmp_path)


def late_predictions_are_filled(running: Running, tasks: list[int]) -> None:
    """*Retrieve predictions* passes the deadline; the empty answers are filled in place."""
    name, services = str(running.project), running.services
    backbone = publish_backbone(services).version
    labelled = {found.id: found.projects[name].uri for found in services.catalog.documents(name, labelled=True)}
    assert len(embed(services, name, labelled, backbone).vectors) == 3
    settings = services.settings
    services.settings = settings.model_copy(update={"predict_deadline": -1.0})
    running.act("retrieve_tasks_predictions")
    services.settings = settings
    assert [running.predictions(task) for task in tasks] == [[False]] * len(tasks)
    outcome = fill(services, name, lambda step, share: None)
    assert outcome.startswith(f"{len(tasks)} of {len(tasks)} ")
    assert [running.predictions(task) for task in tasks] == [[True]] * len(tasks)
    running.act("retrieve_tasks_predictions")
    assert [running.predictions(task) for task in tasks] == [[True]] * len(tasks)


def duplicates_are_removed(running: Running, image: CatalogueImage) -> None:
    """*Remove duplicated tasks* moves annotations and leaves their times as they are."""
    before = running.labels()
    data = [{"data": {"image": "/data/upload/0/twice.jpg"}}] * 2
    checked(running.owner.post(f"/api/projects/{running.project}/import", json=data))
    parameters: dict[str, str | int] = {"project": running.project, "page_size": 100, "fields": "task_only"}
    listed = checked(running.owner.get("/api/tasks", params=parameters)).json()["tasks"]
    twice = [task["id"] for task in listed if task["id"] not in running.tasks]
    assert len(twice) == 2
    for person, task in zip(running.people[:2], twice, strict=True):
        running.annotate(person, task, image)
    running.sync()
    both = running.labels()
    assert len(both) == len(before) + 1
    running.act("remove_duplicates")
    running.sync()
    assert running.labels() == both
    assert running.sync().endswith(UNCHANGED)


def an_address_is_corrected(running: Running, task: int) -> None:
    before = running.labels()
    data = {"data": {"image": "/data/upload/0/corrected.jpg"}}
    checked(running.owner.patch(f"/api/tasks/{task}/", json=data))
    running.sync()
    after = running.labels()
    assert len(after) == len(before)
    assert len(after.keys() - before.keys()) == 1
    checked(running.owner.patch(f"/api/tasks/{task}/", json={"data": {"image": running.tasks[task]}}))
    running.sync()
    assert running.labels() == before


def the_own_export_gives_the_same(running: Running, folder: Path) -> None:
    """In an empty home, once and twice; and beside the live annotations, where nothing counts twice."""
    export, before = running.export(folder / "own.json"), running.labels()
    xml = running.services.projects.get(str(running.project)).label_config
    (folder / "config.xml").write_text(xml, encoding="utf-8")
    empty = Services(Settings(home=folder / "empty"))
    for file in (export, export, running.export(folder / "again.json")):
        done = import_export(empty, file, project=str(running.project), config=folder / "config.xml")
        assert (done.accepted, done.left_out) == (len(before), 0)
        assert labels(empty, running.project) == before
    import_export(running.services, export, project=str(running.project))
    people = [len(found.labels_with_taxonomy) for found in running.services.catalog.documents(str(running.project))]
    assert max(people) == 2
    assert running.sync().endswith(UNCHANGED)
    assert running.labels() == before


def predictions_become_annotations(running: Running, wrong: CatalogueImage) -> None:
    """*Create annotations from predictions* for all tasks: the model is not a person."""
    before = running.labels()
    for task in running.tasks:
        prediction = {**annotation(wrong), "task": task, "score": 0.9, "model_version": "elsewhere"}
        checked(running.owner.post("/api/predictions/", json=prediction))
    running.act("predictions_to_annotations", model_version="elsewhere")
    running.sync()
    assert running.labels() == before
    details = {
        document.projects[str(running.project)].detail or ""
        for document in running.services.catalog.documents(str(running.project))
    }
    assert any("made from a prediction without a person" in detail for detail in details)
    # Label Studio forgets the predictions of the annotations when they are deleted.
    running.act("delete_tasks_predictions")
    running.sync()
    assert running.labels() == before


def another_label_studio(running: Running, images: tuple[CatalogueImage, ...], folder: Path) -> None:
    """It starts without its volume: the same number, another project. Then its export is imported, and it goes."""
    ours, name, before = running.ours, str(running.project), running.labels()
    record = running.services.projects.get(name)
    with server.start(label_studio_program(), folder / "other", cache=LABEL_STUDIO_CACHE) as other:
        with other.owner.client(other.url) as owner:
            config = label_config(image.path for image in images)
            number = 0
            while number < running.project:
                number = create_project(owner, f"Other {number}", config)
            theirs = upload(owner, number, images[:1])
            checked(owner.post(f"/api/tasks/{theirs[0].id}/annotations/", json=annotation(images[0])))
            parameters = {"exportType": "JSON"}
            export = checked(owner.get(f"/api/projects/{number}/export", params=parameters)).json()
        running.services.projects.update(name, label_studio_url=other.url, api_key=SecretStr(other.owner.token))
        with pytest.raises(LabelStudioError, match="another Label Studio"):
            running.sync()
        assert running.labels() == before
        right, ours.label_studio = ours.label_studio, other
        with pytest.raises(ConfigError, match="was not connected"):
            ours.connect(running.project, NO_MODEL, yes=False)
        assert "in the place of that project" in ours.questions[0]
        ours.label_studio = right
    running.services.projects.update(name, label_studio_url=record.label_studio_url, api_key=record.api_key)
    assert running.sync().endswith(UNCHANGED)
    assert running.labels() == before
    # An export of the other one: its ids count from 1 as well.
    found = export[0]["annotations"][0]
    export[0]["annotations"].append({**found, "id": found["id"] + 1, "completed_by": 99, "unique_id": "another"})
    (folder / "theirs.json").write_text(json.dumps(export), encoding="utf-8")
    import_export(running.services, folder / "theirs.json", project=name)
    assert len(running.labels()) == len(before) + 1
    assert running.sync().endswith(UNCHANGED)
    assert len(running.labels()) == len(before) + 1
