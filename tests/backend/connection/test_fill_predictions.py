"""Tasks that were late or unreadable are filled later, in place, so that no task has two predictions of one version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.fill_predictions import fill
from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.unfilled import FIRST_RETRY_S, LAST_RETRY_S, UnfilledTasks
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.worker import Worker
from taxonomist.taxonomy.errors import LabelStudioError
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG, image_bytes

RED = ("Warm", "Red")


class Open:
    """Project 7 with two open tasks; the image of the second is missing. Label Studio stores what it is answered."""

    def __init__(self, services: Services, label_studio: StandIn, folder: Path) -> None:
        self.services, self.label_studio = services, label_studio
        self.missing = folder / "open2.jpg"
        (folder / "open1.jpg").write_bytes(image_bytes(RED, 901))
        for id in (1, 2):
            label_studio.add_task(id, str(folder / f"open{id}.jpg"))

    def ask(self, services: Services | None = None) -> list[bool]:
        """Ask for both tasks, as *Retrieve predictions* does, and store the answers; return which suggest something."""
        body = {"tasks": list(self.label_studio.tasks.values()), "label_config": CONFIG, "project": "7"}
        answers = UseCases(services or self.services).answer(parse_predict(body)).predictions
        for task, answer in zip(self.label_studio.tasks, answers, strict=True):
            self.label_studio.predict(task, answer["model_version"], answer["result"])
        return [bool(answer["result"]) for answer in answers]

    def appear(self) -> None:
        self.missing.write_bytes(image_bytes(RED, 902))

    def fill(self) -> str:
        return fill(self.services, "7", lambda step, share: None)

    def stored(self) -> dict[int, list[bool]]:
        """Return, by task, for each prediction whether it suggests something."""
        found: dict[int, list[bool]] = {id: [] for id in self.label_studio.tasks}
        for prediction in self.label_studio.predictions.values():
            found[prediction["task"]].append(bool(prediction["result"]))
        return found


@pytest.fixture
def opened(world: Services, tmp_path: Path) -> Iterator[Open]:
    embed_all(world, "7", lambda step, share: None)
    with StandIn(7) as label_studio:
        world.projects.update("7", label_studio_url=label_studio.url, api_key=SecretStr("t"))
        yield Open(world, label_studio, tmp_path / "catalogue" / "images")


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr("taxonomist.backend.state.unfilled.time.time", lambda: now)


def test_a_task_whose_image_was_away_is_filled_in_place(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened.ask() == [True, False]
    assert opened.fill() == "0 of 1 unfilled tasks have a suggestion now, 1 are tried again later"
    assert opened.stored() == {1: [True], 2: [False]}
    opened.appear()
    assert opened.fill().startswith("0 of 0")  # not yet
    later(monkeypatch, FIRST_RETRY_S + 1)
    assert opened.fill() == "1 of 1 unfilled tasks have a suggestion now, 0 are tried again later"
    assert opened.stored() == {1: [True], 2: [True]}
    assert opened.services.unfilled.count("7") == 0


def test_late_tasks_are_filled_in_place(opened: Open) -> None:
    opened.appear()
    hurried = Services(opened.services.settings.model_copy(update={"predict_deadline": -1.0}))
    assert opened.ask(hurried) == [False, False]
    assert opened.services.unfilled.count("7") == 2
    assert opened.fill() == "2 of 2 unfilled tasks have a suggestion now, 0 are tried again later"
    assert opened.stored() == {1: [True], 2: [True]}


def test_label_studio_may_be_storing_the_answer(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.ask()
    answers, opened.label_studio.predictions = opened.label_studio.predictions, {}
    opened.appear()
    opened.fill()
    assert opened.label_studio.predictions == {}
    opened.label_studio.predictions = answers
    later(monkeypatch, 3 * FIRST_RETRY_S)
    opened.fill()
    assert opened.stored() == {1: [True], 2: [True]}


def test_an_answer_that_label_studio_never_stored_is_stored(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.ask()
    opened.label_studio.predictions.clear()
    opened.appear()
    later(monkeypatch, 2000)
    monkeypatch.setattr("taxonomist.backend.connection.fill_predictions.SAVING_S", -1.0)
    opened.fill()
    assert opened.stored() == {1: [], 2: [True]}


def test_annotated_and_deleted_tasks_need_no_answer(opened: Open) -> None:
    opened.ask()
    opened.label_studio.annotate(1, 2, 3, ["Warm"])
    opened.services.unfilled.add("7", ["99"], asked=False)
    opened.appear()
    assert opened.fill().startswith("0 of 2")
    assert opened.services.unfilled.count("7") == 0
    assert opened.stored() == {1: [True], 2: [False]}


def test_tasks_of_another_project_are_left_alone(opened: Open) -> None:
    """Label Studio numbers tasks over all projects: after a move, a number may be that of another project's task."""
    opened.ask()
    opened.label_studio.tasks[2]["project"] = 8
    opened.appear()
    assert opened.fill().startswith("0 of 1")
    assert opened.services.unfilled.count("7") == 0
    assert opened.stored() == {1: [True], 2: [False]}


def test_a_task_that_cannot_be_read_or_stored_costs_itself_only(opened: Open) -> None:
    opened.ask()
    opened.services.unfilled.add("7", ["1"], asked=True)
    opened.label_studio.predictions[1]["result"] = []
    opened.appear()

    def refuse(method: str, path: str, answer: object) -> object:
        return 403 if path.startswith("/api/tasks/1") else answer

    opened.label_studio.answer = refuse
    assert opened.fill() == "1 of 2 unfilled tasks have a suggestion now, 1 are tried again later"
    assert opened.stored() == {1: [False], 2: [True]}
    assert opened.services.unfilled.count("7") == 1


def test_a_push_leaves_unreadable_tasks_to_be_filled(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert push(opened.services, "7", lambda step, share: None).startswith("1 of 2 open tasks")
    opened.appear()
    opened.fill()
    assert opened.stored() == {1: [True], 2: [True]}


def test_the_worker_fills_what_is_due_and_does_not_hurry_when_label_studio_is_away(opened: Open) -> None:
    opened.ask()
    worker = Worker(opened.services)
    worker.pulse()
    assert [job.kind for job in opened.services.jobs.waiting()].count(JobKind.FILL) == 1
    opened.label_studio.answer = lambda method, path, answer: "away"
    with pytest.raises(LabelStudioError):
        opened.fill()
    assert opened.services.unfilled.due("7") == []
    assert opened.services.unfilled.count("7") == 1


def test_each_try_doubles_the_time_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("taxonomist.backend.state.unfilled.time.time", lambda: now)
    unfilled = UnfilledTasks(tmp_path / "jobs.sqlite")
    unfilled.add("7", ["1"], asked=True)
    waits: list[float] = []
    for _ in range(14):
        assert [task.task_id for task in unfilled.due("7")] == ["1"]
        unfilled.postpone("7", ["1"])
        start = now
        while not unfilled.due("7"):
            now += FIRST_RETRY_S
        waits.append(now - start)
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == LAST_RETRY_S
    now -= 10 * 365 * 86_400  # the clock was ahead
    assert len(unfilled.due("7")) == 1


def test_another_label_studio_gets_no_prediction(opened: Open) -> None:
    opened.ask()
    opened.services.projects.update("7", created="1795531935")
    opened.appear()
    for call in (fill, push):
        with pytest.raises(LabelStudioError, match="another Label Studio"):
            call(opened.services, "7", lambda step, share: None)
