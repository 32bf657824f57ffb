"""Accepted suggestions are counted without Label Studio's predictions, and their answers raise thresholds."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taxonomist.backend.labelling.acceptance import Acceptance, count_accepted, prefilled_controls
from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew, update_labels
from taxonomist.backend.labelling.taxonomy_changes.apply_changes import apply_certain
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.state.suggestions import AnswerCount, StoredSuggestion
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, TaskSaved
from tests.small_world import CONFIG, publish_promise

SOURCE = "4.1795531934"
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
RED, WARM, BLUE = ("Warm", "Red"), ("Warm",), ("Cold", "Blue")


class Project:
    def __init__(self, services: Services) -> None:
        self.services = services
        services.projects.update("4", label_config=CONFIG, created="1795531934")

    def task(self, id: int, uri: str | None = None, data: dict[str, Any] | None = None) -> None:
        uri = uri or f"/data/upload/4/{id}.jpg"
        self.services.journal.record([TaskSaved("4", SOURCE, str(id), uri, START, data=data or {})])

    def suggest(
        self,
        id: int,
        version: int,
        path: tuple[str, ...],
        minute: int,
        *,
        uri: str | None = None,
        score: float = 0.9,
        blind: bool = False,
    ) -> None:
        at = (START + timedelta(minutes=minute)).timestamp()
        image = image_id(uri or f"/data/upload/4/{id}.jpg")
        row = StoredSuggestion(str(id), "colour", f"taxonomist-v{version}", image, path, score, at, blind)
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


@pytest.fixture
def one_annotator(project: Project) -> Project:
    project.services.projects.update("4", settings=ProjectChoices(annotators=1))
    return project


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


V1 = "taxonomist-v1"


def decided(project: Project) -> list[AnswerCount]:
    """Decide the labels of the images as the worker does, and return the counts of answers."""
    decide_all_dirty(project.services, "4")
    return project.services.suggestions.answer_counts("4", V1)


def test_an_accepted_label_answers_a_suggestion_by_level(one_annotator: Project) -> None:
    project = one_annotator
    for task in (1, 2, 3, 4, 5):
        project.task(task)
        project.suggest(task, 1, WARM if task == 2 else RED, 0)
    project.annotate(1, 1, 5, RED)
    project.annotate(2, 2, 5, RED)
    project.annotate(3, 3, 5, BLUE)
    project.annotate(4, 4, 5)  # left empty
    project.annotate(5, 5, 5, WARM)  # stops above: it is not known whether the suggestion is right
    level_1, level_2 = AnswerCount(1, False, 1, 1), AnswerCount(2, False, 3, 1)
    assert decided(project) == [level_1, level_2]


def test_one_person_of_two_answers_nothing(project: Project) -> None:
    project.task(1)
    project.suggest(1, 1, RED, 0)
    project.annotate(1, 1, 5, RED)
    assert decided(project) == []
    project.annotate(2, 1, 6, RED, completed_by=4)
    assert decided(project) == [AnswerCount(2, False, 1, 1)]


def test_a_deleted_annotation_answers_no_longer(one_annotator: Project) -> None:
    project = one_annotator
    project.task(1)
    project.suggest(1, 1, RED, 0)
    project.annotate(1, 1, 5, BLUE)
    assert decided(project) == [AnswerCount(2, False, 1, 0)]
    project.services.journal.record([AnnotationDeleted("4", SOURCE, "1")])
    assert decided(project) == []


def test_a_blind_suggestion_is_judged_and_was_not_accepted(one_annotator: Project) -> None:
    project = one_annotator
    project.task(1)
    project.suggest(1, 1, RED, 0, blind=True)
    project.annotate(1, 1, 5, RED)
    assert decided(project) == [AnswerCount(2, True, 1, 1)]
    assert project.counts() == {}


class Watched:
    """Project "4" with a version 1 whose threshold is 0.6, and tasks that a person answers minute by minute."""

    def __init__(self, project: Project) -> None:
        self.project, self.services, self.minute = project, project.services, 0
        publish_promise(self.services, "4", target=0.9, threshold=0.6)

    def answer(self, *right: bool, score: float = 0.7, sku: str | None = None, version: int = 1) -> None:
        for is_right in right:
            self.minute += 1
            self.project.task(self.minute, data={"sku": sku or str(self.minute)})
            self.project.suggest(self.minute, version, RED, self.minute, score=score)
            self.project.annotate(self.minute, self.minute, self.minute, RED if is_right else BLUE)

    @property
    def floors(self) -> dict[str, float]:
        decide_all_dirty(self.services, "4")
        return self.services.suggestions.floors("4", V1)


@pytest.fixture
def watched(one_annotator: Project) -> Watched:
    return Watched(one_annotator)


def test_the_floor_rises_when_the_promise_breaks(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.answer(*[True] * 20, *[False] * 10, score=0.72)
    assert watched.floors == {}
    watched.answer(*[False] * 10, score=0.72)
    assert watched.floors == {"colour": 0.75}
    assert "only those from a probability of 0.75 on are shown" in caplog.text
    watched.answer(*[False] * 20, score=0.97)
    assert watched.floors == {"colour": math.inf}
    assert "nothing is suggested any more" in caplog.text


def test_each_replay_gives_the_same_floors(watched: Watched) -> None:
    watched.answer(*[True] * 5, *[False] * 20, *[True] * 20, score=0.72)
    floors = watched.floors
    assert floors
    replay = Services(watched.services.settings)  # the next process
    replay.suggestions.keep_floors("4", V1, {})
    update_labels(replay, "4", [image_id(f"/data/upload/4/{task}.jpg") for task in range(45, 0, -1)])
    assert replay.suggestions.floors("4", V1) == floors


def test_versions_that_follow_each_other_share_the_evidence(watched: Watched) -> None:
    publish_promise(watched.services, "4", target=0.9, threshold=0.7)
    publish_promise(watched.services, "4", target=0.9, threshold=0.7)
    watched.answer(*[False] * 7, score=0.72)
    watched.answer(*[False] * 9, score=0.72, version=2)
    assert watched.floors == {}
    assert watched.services.suggestions.floors("4", "taxonomist-v2") == {"colour": 0.75}
    watched.answer(*[False] * 9, score=0.72, version=3)  # after the break it begins anew
    decide_all_dirty(watched.services, "4")
    assert watched.services.suggestions.floors("4", "taxonomist-v3") == {}


@pytest.mark.parametrize("name", ["Red", "colour"])
def test_a_node_or_control_with_another_name_breaks_no_promise(watched: Watched, name: str) -> None:
    """The suggestions have the name that they were made with, the labels have the new one."""
    watched.answer(*[True] * 40, score=0.72)
    assert watched.floors == {}
    old = watched.services.projects.get("4").label_config
    watched.services.projects.update("4", label_config=old.replace(f'"{name}"', f'"{name.upper()}"'))
    decide_anew(watched.services, "4")
    assert watched.floors == {}
    assert apply_certain(watched.services, "4").labels == 40
    assert watched.floors == {}
    counts = watched.services.suggestions.answer_counts("4", V1)
    assert [(count.answered, count.right) for count in counts] == [(40, 40)]
    assert watched.project.counts() == {V1: Acceptance(40, 40)}
    watched.answer(*[False] * 40, score=0.72)  # what is wrong is still seen
    assert watched.floors == {"colour": 0.75}


def test_images_of_a_product_count_once(watched: Watched) -> None:
    watched.services.projects.update("4", settings=ProjectChoices(annotators=1, product_field="sku"))
    watched.answer(*[False] * 40, sku="one")
    assert watched.floors == {}
    assert watched.services.suggestions.answer_counts("4", V1) == [AnswerCount(2, False, 40, 0)]


def test_a_damaged_file_of_suggestions_costs_no_label(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched.answer(True)
    watched.services.suggestions.count("4")
    path = watched.services.home / "suggestions.sqlite"
    for file in path.parent.glob("suggestions.sqlite*"):
        file.unlink()
    path.write_bytes(b"no database" * 1000)
    decide_all_dirty(watched.services, "4")
    assert watched.services.catalog.count("4", labelled=True) == 1
    assert "it is not known what became of suggestions" in caplog.text


def test_a_connected_project_withdraws_what_is_below_the_floor(watched: Watched) -> None:
    watched.services.projects.update("4", ml_backend=3)
    watched.answer(*[False] * 20, score=0.72)
    assert watched.floors
    (job,) = [job for job in watched.services.jobs.waiting() if job.kind is JobKind.PUSH]
    assert job.project == "4"


def test_an_image_is_prefilled_where_an_annotator_saw_a_suggestion(project: Project) -> None:
    for task in range(1, 6):
        project.task(task)
        project.annotate(task, task, 10, RED, **({"was_cancelled": True} if task == 4 else {}))
    project.suggest(1, 1, RED, minute=5)
    project.suggest(2, 1, RED, minute=5, blind=True)
    project.suggest(3, 1, RED, minute=15)  # too late
    project.suggest(4, 1, RED, minute=5)  # skipped
    project.services.journal.fold()
    images = {task: image_id(f"/data/upload/4/{task}.jpg") for task in range(1, 6)}
    found = prefilled_controls(project.services, "4", images.values())
    assert found == {images[1]: frozenset({"colour"})}
    project.annotate(6, 3, 20, RED)  # another person, after the suggestion
    project.services.journal.fold()
    assert prefilled_controls(project.services, "4", images.values()).keys() == {images[1], images[3]}
