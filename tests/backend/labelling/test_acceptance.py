"""Accepted suggestions are counted without Label Studio's predictions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taxonomist.backend.labelling.acceptance import Acceptance, count_accepted
from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, TaskSaved
from tests.small_world import CONFIG

SOURCE = "4.1795531934"
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
RED, WARM, BLUE = ("Warm", "Red"), ("Warm",), ("Cold", "Blue")


class Project:
    def __init__(self, services: Services) -> None:
        self.services = services
        services.projects.update("4", label_config=CONFIG, created="1795531934")

    def task(self, id: int, uri: str | None = None) -> None:
        self.services.journal.record([TaskSaved("4", SOURCE, str(id), uri or f"/data/upload/4/{id}.jpg", START)])

    def suggest(self, id: int, version: int, path: tuple[str, ...], minute: int, *, uri: str | None = None) -> None:
        at = (START + timedelta(minutes=minute)).timestamp()
        image = image_id(uri or f"/data/upload/4/{id}.jpg")
        row = StoredSuggestion(str(id), "colour", f"taxonomist-v{version}", image, path, 0.9, at)
        self.services.suggestions.add("4", [row])

    def annotate(self, id: int, task: int, minute: int, *paths: tuple[str, ...], **fields: Any) -> None:
        at = START + timedelta(minutes=minute)
        region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": list(paths)}}
        data = {
            "id": id,
            "task": task,
            "completed_by": 3,
            "created_at": at.isoformat(),
            "updated_at": at.isoformat(),
            "lead_time": 3.0,
            "parent_prediction": None,  # Label Studio has forgotten it
            "result": [region] if paths else [],
            **fields,
        }
        uri = f"/data/upload/4/{task}.jpg"
        self.services.journal.record([AnnotationSaved("4", SOURCE, str(id), str(task), uri, at, at, data)])

    def counts(self) -> dict[str, Acceptance]:
        return count_accepted(self.services, "4")


@pytest.fixture
def project(services: Services) -> Project:
    return Project(services)


def test_accepted_deepened_changed_and_left_empty(project: Project) -> None:
    for task in (1, 2, 3, 4):
        project.task(task)
        project.suggest(task, 1, WARM if task == 2 else RED, 0)
    project.annotate(1, 1, 5, RED)
    project.annotate(2, 2, 5, RED)  # deeper than what was suggested
    project.annotate(3, 3, 5, BLUE)
    project.annotate(4, 4, 5)
    assert project.counts() == {"taxonomist-v1": Acceptance(shown=4, accepted=2)}


def test_the_newest_suggestion_before_the_annotation_counts(project: Project) -> None:
    for task in (1, 2):
        project.task(task)
        project.suggest(task, 1, RED, 0)
        project.suggest(task, 2, BLUE, 10)
    project.annotate(1, 1, 5, RED)
    project.annotate(2, 2, 15, RED)
    assert project.counts() == {"taxonomist-v1": Acceptance(1, 1), "taxonomist-v2": Acceptance(1, 0)}


def test_what_answers_nothing_is_not_counted(project: Project) -> None:
    for task in (1, 2, 3, 4, 5, 6):
        project.task(task)
    for task in (1, 2, 3, 5):
        project.suggest(task, 1, RED, 0)
    project.annotate(1, 1, 5, RED, parent_prediction=8, lead_time=None)  # made by the model
    project.annotate(2, 2, 5, was_cancelled=True)
    project.annotate(3, 3, -5, RED)  # before the suggestion
    project.annotate(4, 4, 5, RED)  # nothing was suggested
    project.annotate(5, 5, 5, RED)
    project.services.journal.record([AnnotationDeleted("4", SOURCE, "5")])
    project.suggest(6, 1, RED, 0, uri="/data/upload/4/former.jpg")  # the number was another task's
    project.annotate(6, 6, 5, RED)
    assert project.counts() == {}


def test_several_people_answer_a_suggestion_each(project: Project) -> None:
    project.task(1)
    project.suggest(1, 1, RED, 0)
    project.annotate(1, 1, 5, RED)
    project.annotate(2, 1, 6, BLUE, completed_by=4)
    assert project.counts() == {"taxonomist-v1": Acceptance(2, 1)}


def test_an_image_of_a_task_with_several(project: Project) -> None:
    images = {"image": "/data/upload/4/1.jpg", "second": "/data/upload/4/b.jpg"}
    project.services.journal.record([TaskSaved("4", SOURCE, "1", images["image"], START, images=images)])
    project.suggest(1, 1, RED, 0, uri=images["second"])
    project.annotate(1, 1, 5, RED)
    assert project.counts() == {"taxonomist-v1": Acceptance(1, 1)}
