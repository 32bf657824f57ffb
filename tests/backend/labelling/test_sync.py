"""Passes over Label Studio's API: content is compared, and nothing is deleted because one answer was odd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling import decisions
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run as run_job
from taxonomist.storage.journal import AnnotationDeleted, Event, Journal, TaskDeleted
from taxonomist.taxonomy.errors import LabelStudioError
from tests.backend.labelling.conftest import A, B, C, labels, run
from tests.label_studio_stand_in import RED, SOURCE, StandIn
from tests.small_world import CONFIG


def test_labels_that_take_long_show_progress(
    services: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that shows none for a while is taken for a hung one, and its worker is replaced."""
    monkeypatch.setattr(decisions, "CHUNK", 1)
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
    steps: list[str] = []
    sync(services, "4", lambda step, share: steps.append(step))
    assert steps.count("labels") == 3
    services.projects.update("4", decided_with="another rule")
    sync(services, "4", lambda step, share: steps.append(step))
    assert steps.count("labels") == 6


@pytest.mark.parametrize("missing", ["created_at", "task_number", "total_annotations_number"])
def test_an_answer_without_counts_deletes_nothing(connected: Services, label_studio: StandIn, missing: str) -> None:
    label_studio.tasks.clear()
    label_studio.missing = missing
    with pytest.raises(LabelStudioError, match="did not say"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_a_second_pass_finds_nothing(connected: Services) -> None:
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"


@pytest.mark.parametrize("what", ["tasks", "annotations", "last page"])
def test_a_list_that_contradicts_the_projects_own_count_deletes_nothing(
    connected: Services, label_studio: StandIn, what: str
) -> None:
    def odd(method: str, path: str, answer: Any) -> Any:
        if path.rstrip("/") != "/api/tasks":
            return answer
        if what == "last page":
            return {**answer, "tasks": answer["tasks"][:2]}
        is_annotations = any(task["annotations"] for task in answer["tasks"])
        return {**answer, "tasks": []} if is_annotations == (what == "annotations") else answer

    label_studio.answer = odd
    with pytest.raises(LabelStudioError, match=r"listed \d .*Nothing was deleted"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_skipped_annotations_are_counted(connected: Services, label_studio: StandIn) -> None:
    label_studio.annotate(12, 1, 7, was_cancelled=True)
    label_studio.add_task(4, "/data/upload/4/skipped.jpg")
    label_studio.annotate(40, 4, 7, was_cancelled=True)
    assert run(connected) == "4 tasks, 8 annotations (2 skipped), 3 missed events, 0 missed deletions"
    assert run(connected) == "4 tasks, 8 annotations (2 skipped), 0 missed events, 0 missed deletions"


def test_skips_that_the_project_counts_and_no_list_has_are_not_deleted(
    connected: Services, label_studio: StandIn
) -> None:
    label_studio.add_task(4, "/data/upload/4/skipped.jpg")
    label_studio.annotate(40, 4, 7, was_cancelled=True)
    run(connected)

    def odd(method: str, path: str, answer: Any) -> Any:
        if path.rstrip("/") != "/api/tasks":
            return answer
        return {
            **answer,
            "tasks": [{**task, "annotations": []} if task["id"] == 4 else task for task in answer["tasks"]],
        }

    label_studio.answer = odd
    with pytest.raises(LabelStudioError, match=r"listed 0 skipped annotations .* counts 1. Nothing was deleted"):
        run(connected)
    assert len(list(connected.journal.annotations("4"))) == 7
    label_studio.missing = "skipped_annotations_number"  # as a release of Label Studio that does not count them
    assert run(connected).endswith("0 missed events, 1 missed deletions")


def test_what_a_pass_cannot_use_is_counted_once(
    connected: Services, label_studio: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A task with annotations is in two lists."""
    label_studio.add_task(4, "", data={"text": "no image"})
    label_studio.annotate(40, 4, 3, RED)
    label_studio.annotate(12, 1, 7, ["Warm", "Rad"])
    label_studio.annotate(13, 1, 8, RED)
    label_studio.annotations[13]["result"] = "none"
    counted = (
        "1 × task without an image",
        "1 × name that the taxonomy does not have",
        "1 × annotation that cannot be read",
    )
    for missed in (1, 0):
        caplog.clear()
        outcome = run(connected)
        assert outcome.startswith("4 tasks, 9 annotations, 3 left out (")
        assert all(text in outcome for text in counted)
        assert outcome.endswith(f"{missed} missed events, 0 missed deletions")
        assert caplog.text.count("task 4: it has no image") == 1


def test_many_deletions_are_recorded_in_portions(
    connected: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    record = Journal.record

    def portion(journal: Journal, events: Sequence[Event]) -> int:
        recorded.append(len(events))
        return record(journal, events)

    label_studio.tasks.clear()
    label_studio.annotations.clear()
    monkeypatch.setattr("taxonomist.backend.labelling.sync.CHUNK", 2)
    monkeypatch.setattr(Journal, "record", portion)
    assert run(connected).endswith("9 missed deletions")
    assert max(recorded) == 2
    assert labels(connected) == {}


def test_what_was_really_deleted_goes(connected: Services, label_studio: StandIn) -> None:
    del label_studio.tasks[3], label_studio.annotations[30], label_studio.annotations[31], label_studio.annotations[20]
    assert run(connected) == "2 tasks, 3 annotations, 0 missed events, 4 missed deletions"
    assert labels(connected) == {A: RED, B: None}


def test_what_the_api_shows_alive_lives_again(connected: Services) -> None:
    connected.journal.record([TaskDeleted("4", SOURCE, id) for id in "123"])
    connected.journal.record([AnnotationDeleted("4", SOURCE, f"{id}{n}") for id in "123" for n in "01"])
    decide_all_dirty(connected, "4")
    assert labels(connected) == {}
    run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_a_version_that_label_studio_does_not_know_is_announced_when_a_pass_succeeds(
    connected: Services, label_studio: StandIn
) -> None:
    """Label Studio was away while a training ended."""
    connected.projects.update("4", ml_backend=1, announced="taxonomist-v0")
    label_studio.answer = lambda method, path, answer: "away"
    with pytest.raises(LabelStudioError):
        run_job(connected, JobKind.SYNC, "4", lambda step, share: None)
    assert JobKind.PUSH not in [job.kind for job in connected.jobs.waiting()]
    label_studio.answer = lambda method, path, answer: answer
    run_job(connected, JobKind.SYNC, "4", lambda step, share: None)
    assert JobKind.PUSH in [job.kind for job in connected.jobs.waiting()]
