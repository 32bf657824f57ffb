"""Predictions of old versions do not pile up in Label Studio, and no annotation loses its origin with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.label_studio.predictions import is_model_version, model_version_name
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import image_bytes

OTHERS = [
    "taxonomist",
    "taxonomist-v",
    "taxonomist-v1.0",
    "taxonomist-v01",
    "taxonomist-v1 ",
    "taxonomist-v1\n",
    "taxonomist-v1-tuned",
    "my-taxonomist-v1",
    "Taxonomist-v1",
    "taxonomist-v١",
    "taxonomist-look-alikes",
    "taxonomist-look-alikes-x",
    "v1",
    "",
]


class Connected:
    """Project 7 with three open tasks, and a model whose version the test sets."""

    def __init__(self, services: Services, label_studio: StandIn, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.services, self.label_studio, self._patch = services, label_studio, patch
        for id in (1, 2, 3):
            (folder / f"open{id}.jpg").write_bytes(image_bytes(tuple(RED), 900 + id))
            label_studio.add_task(id, str(folder / f"open{id}.jpg"))

    def promote(self, *numbers: int) -> str:
        """Serve these versions, one after the other, each with a push; return the outcome of the last."""
        outcome = ""
        for number in numbers:
            version = model_version_name(f"v{number}")
            self._patch.setattr(Predictor, "model_version", lambda _self, _project, version=version: version)
            outcome = push(self.services, "7", lambda step, share: None)
        return outcome

    def versions(self, task: int) -> list[str]:
        """Return the versions of a task's predictions, by their ids."""
        found = self.label_studio.predictions.values()
        return [one["model_version"].removeprefix("taxonomist-") for one in found if one["task"] == task]

    def store(self, task: int, *numbers: int) -> None:
        for number in numbers:
            self.label_studio.predict(task, f"taxonomist-v{number}", [])


@pytest.fixture
def connected(world: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connected]:
    embed_all(world, "7", lambda step, share: None)
    with StandIn(7) as label_studio:
        world.projects.update("7", label_studio_url=label_studio.url, api_key=SecretStr("t"))
        yield Connected(world, label_studio, tmp_path / "catalogue" / "images", monkeypatch)


def test_an_open_task_has_the_last_two_versions_and_its_predictions_keep_their_ids(connected: Connected) -> None:
    connected.promote(1, 2)
    ids = list(connected.label_studio.predictions)
    connected.promote(3, 4, 5, 6, 7)
    assert [sorted(connected.versions(task)) for task in (1, 2, 3)] == [["v6", "v7"]] * 3
    assert list(connected.label_studio.predictions) == ids
    newest = [one for one in connected.label_studio.predictions.values() if one["model_version"] == "taxonomist-v7"]
    assert all(one["result"] for one in newest)


@pytest.mark.parametrize("name", OTHERS)
def test_a_version_of_another_backend_is_never_ours(connected: Connected, name: str) -> None:
    assert not is_model_version(name)
    connected.label_studio.predict(1, name, [])
    connected.promote(1, 2, 3)
    assert name in [one["model_version"] for one in connected.label_studio.predictions.values()]


def test_a_task_with_a_draft_keeps_everything_until_the_draft_is_gone(connected: Connected) -> None:
    connected.promote(1, 2)
    connected.label_studio.drafts = {2}
    outcome = connected.promote(3, 4)
    assert connected.versions(2) == ["v1", "v2", "v3", "v4"]
    assert sorted(connected.versions(1)) == ["v3", "v4"]
    assert outcome.endswith(", 0 predictions of older versions were removed, 2 stay")
    connected.label_studio.drafts = set()
    connected.promote(5)
    assert sorted(connected.versions(2)) == ["v4", "v5"]


def test_what_an_earlier_release_left_is_removed(connected: Connected, caplog: pytest.LogCaptureFixture) -> None:
    for task in (1, 2, 3):
        connected.store(task, 1, 2, 3, 4, 5, 6)
    connected.services.projects.update("7", announced="taxonomist-v6")
    with caplog.at_level("INFO"):
        outcome = connected.promote(7)
    assert [sorted(connected.versions(task)) for task in (1, 2, 3)] == [["v6", "v7"]] * 3
    assert outcome == (
        "3 of 3 open tasks have a suggestion of taxonomist-v7, 12 predictions of older versions were removed"
    )
    assert "12 predictions of older versions were removed" in caplog.text


def test_an_annotated_task_keeps_no_old_version_once_the_journal_knows_the_origin(connected: Connected) -> None:
    connected.promote(1)
    connected.label_studio.annotate(1, 1, 5, RED, parent_prediction=1)
    connected.promote(2, 3)
    assert connected.versions(1) == ["v1"]  # no webhook and no pass has brought the annotation yet
    connected.services.projects.update("7", created="1795531934")
    sync(connected.services, "7", lambda step, share: None)
    connected.promote(4)
    assert connected.versions(1) == []
    connected.label_studio.annotations[1]["parent_prediction"] = None  # as Label Studio does
    sync(connected.services, "7", lambda step, share: None)
    (record,) = connected.services.journal.annotations("7", source="7.1795531934")
    assert record.data["parent_prediction"] == 1


def test_the_origin_of_what_the_model_made_is_never_removed(connected: Connected) -> None:
    """Label Studio would forget it, and its exports would show the annotation as a person's."""
    connected.promote(1)
    connected.label_studio.annotate(1, 1, 5, RED, parent_prediction=1, lead_time=None)
    connected.services.projects.update("7", created="1795531934")
    sync(connected.services, "7", lambda step, share: None)
    connected.promote(2, 3, 4)
    assert connected.versions(1) == ["v1"]


def test_a_task_that_is_not_completed_keeps_two(connected: Connected) -> None:
    """Somebody may have it open: Label Studio does not show that."""
    connected.label_studio.overlap = 2
    connected.store(1, 1, 2, 3)
    connected.label_studio.annotate(1, 1, 5, RED)
    connected.promote(8, 9)
    assert connected.versions(1) == ["v2", "v3"]
    connected.label_studio.annotate(2, 1, 6, RED)
    connected.promote(10)
    assert connected.versions(1) == []


def test_after_a_rollback_both_versions_stay(connected: Connected) -> None:
    connected.promote(1, 2, 3, 2)
    assert [sorted(connected.versions(task)) for task in (1, 2, 3)] == [["v2", "v3"]] * 3


def test_without_a_push_old_versions_are_removed_all_the_same(connected: Connected) -> None:
    connected.services.settings = connected.services.settings.model_copy(update={"push_predictions": False})
    connected.store(1, 1, 2, 3, 4)
    connected.services.projects.update("7", announced="taxonomist-v4")
    outcome = connected.promote(5)
    assert outcome == "Label Studio shows taxonomist-v5, 2 predictions of older versions were removed, 1 stay"
    assert connected.versions(1) == ["v3", "v4"]  # the newest two: the task is open


def test_a_prediction_that_is_gone_costs_nothing(connected: Connected) -> None:
    connected.promote(1, 2)
    connected.store(1, 1, 1, 1)
    connected.label_studio.refuse = lambda method, path: 404 if method in {"DELETE", "PATCH"} else None
    assert connected.promote(3).startswith("3 of 3 open tasks have a suggestion of taxonomist-v3")
    assert [connected.versions(task).count("v3") for task in (1, 2, 3)] == [1, 1, 1]


def test_a_removal_that_is_interrupted_goes_on_with_the_next_push(connected: Connected) -> None:
    for task in (1, 2, 3):
        connected.store(task, 1, 2, 3, 4)
    allowed = iter([None] * 4)
    connected.label_studio.refuse = lambda method, path: next(allowed, 500) if method == "DELETE" else None
    assert ", 4 predictions of older versions were removed" in connected.promote(5)
    connected.label_studio.refuse = lambda method, path: None
    connected.promote(6)
    assert [sorted(connected.versions(task)) for task in (1, 2, 3)] == [["v5", "v6"]] * 3


@pytest.mark.parametrize("odd", ["away", None, [], ["taxonomist-v1"], 5])
def test_an_odd_list_of_versions_removes_nothing_and_does_not_fail_the_push(connected: Connected, odd: Any) -> None:
    connected.store(1, 1, 2, 3, 4)
    connected.label_studio.answers["/api/projects/7/model-versions"] = odd
    assert connected.promote(6).startswith("3 of 3 open tasks")
    assert len(connected.versions(1)) == 4


@pytest.mark.parametrize("odd", [{}, {"id": None, "model_version": "taxonomist-v1"}, {"id": 9}])
def test_an_odd_prediction_is_left_alone(connected: Connected, odd: Any) -> None:
    connected.store(1, 1, 2, 3, 4)

    def answer(method: str, path: str, body: Any) -> Any:
        if path.startswith("/api/tasks") and isinstance(body, dict):
            for task in body["tasks"]:
                task["predictions"] = [odd, *task["predictions"]]
        return body

    connected.label_studio.answer = answer
    connected.promote(6)
    assert "v6" in connected.versions(1)


def test_what_does_not_say_whether_there_is_a_draft_keeps_everything(connected: Connected) -> None:
    connected.store(1, 1, 2, 3)

    def answer(method: str, path: str, body: Any) -> Any:
        if path.startswith("/api/tasks") and isinstance(body, dict):
            for task in body["tasks"]:
                del task["draft_exists"]
        return body

    connected.label_studio.answer = answer
    connected.promote(6)
    assert connected.versions(1) == ["v1", "v2", "v3", "v6"]


def test_a_longer_version_is_not_taken_for_a_shorter_one(connected: Connected) -> None:
    connected.label_studio.annotate(1, 1, 5, RED)
    connected.store(1, 12, 1)
    connected.services.projects.update("7", announced="taxonomist-v12")
    connected.promote(13)
    assert connected.versions(1) == ["v12"]


def test_what_was_pushed_is_kept_for_each_version(connected: Connected) -> None:
    connected.promote(1, 2, 3)
    rows = connected.services.suggestions.of_tasks("7", ["1"])
    assert [(row.version, row.control, row.path) for row in rows] == [
        (f"taxonomist-v{number}", "colour", tuple(RED)) for number in (1, 2, 3)
    ]
    assert all(0 < row.score <= 1 for row in rows)
