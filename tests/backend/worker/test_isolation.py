"""Each step of the worker, each project, image and job fails alone; what fails is shown and tried again."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.labelling import decisions
from taxonomist.backend.labelling.image_decision import decide_image
from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.services import Services
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobKind, JobState
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.backend.worker import job_loop
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.catalog import SqliteCatalog
from taxonomist.storage.journal import Journal
from taxonomist.storage.set_aside import ItemKind
from taxonomist.storage.sqlite import as_storage_error
from taxonomist.taxonomy.errors import ConflictError, DamagedError, StorageError
from tests.backend.cli.conftest import Run, run_json
from tests.backend.web.test_app import client_of
from tests.small_world import CONFIG

ERRORS = [
    MemoryError(),
    RecursionError("too deep"),
    OverflowError("too large"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    sqlite3.DataError("string or blob too big"),
    ZeroDivisionError("odd"),
    DamagedError("one record"),
]
STEPS = {
    "labels": "taxonomist.backend.worker.worker.decide_dirty",
    "trainings": "taxonomist.backend.worker.retraining_schedule.TrainingPlanner._plan_training",
    "passes over Label Studio": "taxonomist.backend.worker.retraining_schedule.TrainingPlanner._plan_passes",
    "announcements": "taxonomist.backend.prediction.predictor.Predictor.model_version",
    "promotions": "taxonomist.backend.retraining.finish_promotion.finish_promotion",
}


@pytest.fixture
def two(services: Services) -> Services:
    for project in ("4", "8"):
        services.projects.update(
            project, label_config=CONFIG, label_studio_url="http://127.0.0.1:1", api_key=SecretStr("t"), ml_backend=1
        )
    return services


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_step_of_one_project_fails_alone(
    two: Services, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    done: list[str] = []

    def fail(*arguments: Any) -> Any:
        names = [getattr(argument, "project", argument) for argument in arguments]
        project = next(name for name in names if name in {"4", "8"})
        done.append(project)
        if project == "4":
            raise error
        return "no model"

    monkeypatch.setattr(STEPS[step], fail)
    worker = Worker(two)
    worker._begin()
    worker.pulse()
    assert {"4", "8"} <= set(done)
    (item,) = (item for item in two.journal.set_aside.items() if item.key == step)
    assert (item.project, item.kind) == ("4", ItemKind.STEP)
    error_name = "one record" if isinstance(error, DamagedError) else type(error).__name__
    assert error_name in item.reason
    monkeypatch.undo()
    worker._begin()
    worker.pulse()
    assert two.journal.set_aside.items() == []


def full_disk(services: Services) -> StorageError:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = as_storage_error(full, services.home)
    error.__cause__ = full
    return error


def test_a_full_disk_is_no_fault_of_a_project(two: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise full_disk(two)

    monkeypatch.setattr(decisions, "_write_labels", fail)
    with pytest.raises(StorageError):
        decisions.update_labels(two, "4", ["a", "b"])
    assert two.journal.set_aside.items() == []


def test_an_image_is_decided_by_the_next_pulse_when_another_writer_was_faster(
    world: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    Worker(world).pulse()
    image = sorted(document.id for document in world.catalog.documents("7"))[0]
    world.journal.withdrawal.decide_again("7", [image])
    before = world.catalog.get(image)
    worker = Worker(world)
    with monkeypatch.context() as patched:

        def fail(*_: object) -> int:
            raise ConflictError(f"Other writers keep changing the document {image}.")

        patched.setattr(SqliteCatalog, "update_many", fail)
        worker.pulse()
    assert world.journal.set_aside.items() == []
    assert world.journal.dirty("7").images == {image}
    worker.pulse()
    after = world.catalog.get(image)
    assert after is not None
    assert before is not None
    assert after.etag != before.etag
    assert world.journal.dirty_projects() == []


def test_a_problem_that_cannot_be_stored_is_logged_once_and_stored_later(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    journal = services.home / "journal.sqlite"
    journal.mkdir()  # SQLite cannot open it

    def pulses(count: int, error: Exception | None) -> list[str]:
        caplog.clear()
        for _ in range(count):
            with services.isolation.of("7", "labels"):
                if error is not None:
                    raise error
        return caplog.messages

    assert pulses(100, StorageError("No room.")) == ["project 7: labels wait: No room."]
    journal.rmdir()
    assert pulses(100, StorageError("No room.")) == []
    assert [(item.reason, item.tries) for item in services.journal.set_aside.items("7")] == [("No room.", 1)]
    assert pulses(100, None) == ["project 7: labels go on"]
    assert services.journal.set_aside.items("7") == []


def test_a_heartbeat_says_that_the_worker_works_and_not_that_each_project_does(
    two: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise full_disk(two)

    monkeypatch.setattr("taxonomist.backend.worker.worker.decide_dirty", fail)
    Worker(two).pulse()
    assert two.isolation.failures == 0
    assert heartbeat.age(two.home) is not None  # a store that is away for one project


def test_there_is_no_heartbeat_while_nothing_is_done(two: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise full_disk(two)

    worker = Worker(two)
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "fold", fail)
        worker.pulse()
        assert heartbeat.age(two.home) is None
    worker.pulse()
    assert heartbeat.age(two.home) is not None


def test_an_image_costs_itself_only(world: Services, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    bad = sorted(document.id for document in world.catalog.documents("7"))[11]
    before = world.catalog.get(bad)

    def decide(records: Any, *others: Any) -> Any:
        if any(record.image_id == bad for record in records):
            raise RecursionError("odd")
        return decide_image(records, *others)

    with monkeypatch.context() as patched:
        patched.setattr(decisions, "decide_image", decide)
        world.projects.update("7", label_config=CONFIG.replace('<Choice value="Red"/>', ""))
        Worker(world).pulse()
    accepted = {d.id: d.projects["7"].accepted["colour"] for d in world.catalog.documents("7")}
    assert sum(["Warm", "Red"] in paths for paths in accepted.values()) == (
        before is not None and ["Warm", "Red"] in before.projects["7"].accepted["colour"]
    )
    (item,) = world.journal.set_aside.items()
    assert (item.project, item.kind, item.key, item.reason) == ("7", ItemKind.IMAGE, bad, "RecursionError: odd")

    (project,) = collect_status(world).projects
    assert [(row.kind, row.key) for row in project.set_aside] == [("image", bad)]
    lines = "\n".join(status_lines(collect_status(world)))
    assert f"image {bad}, since" in lines
    assert "try again: taxonomist retry --project 7" in lines
    (check,) = (check for check in run_checks(world) if check.name == "set aside of project 7")
    assert (check.status, "RecursionError: odd" in check.detail) == ("warn", True)
    assert 'taxonomist_set_aside{kind="image"} 1.0' in client_of(world).get("/metrics").text
    assert run_json(run, "status")["projects"][0]["set_aside"][0]["key"] == bad

    world.projects.update("8", label_config=CONFIG)
    assert run_json(run, "retry", "--project", "8")["images"] == 0
    code, out, _ = run("retry")
    assert (code, out) == (0, "The worker tries again: 1 image.\n")
    Worker(world).pulse()
    assert world.journal.set_aside.items() == []
    assert world.catalog.get(bad) != before or before is None
    assert run("retry")[1] == "Nothing is set aside.\n"


def test_a_job_that_kills_its_worker_is_set_aside_and_tried_again_on_demand(two: Services, run: Run) -> None:
    for attempt in range(MAX_ATTEMPTS):
        Worker(two)._begin()
        waiting = {(job.kind, job.project) for job in two.jobs.waiting()}
        assert {(JobKind.SYNC, "4"), (JobKind.SYNC, "8")} <= waiting, attempt
        two.jobs.start(next(job.id for job in two.jobs.waiting() if (job.kind, job.project) == (JobKind.SYNC, "4")))
    Worker(two)._begin()
    (item,) = two.journal.set_aside.items()
    assert (item.kind, item.project, item.key, item.reason) == ("job", "4", "sync", "its process died 3 times")
    syncs = [job.project for job in two.jobs.waiting() if job.kind is JobKind.SYNC]
    assert syncs == ["8"]
    Worker(two)._begin()  # a start repeats it twice, in case that the cause is gone
    assert run_json(run, "retry")["jobs"] == 1
    assert (JobKind.SYNC, "4") in {(job.kind, job.project) for job in two.jobs.waiting()}


def test_an_unexpected_error_of_a_job_is_set_aside_until_it_succeeds(
    two: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(two)
    for outcome in (ZeroDivisionError("odd"), None):

        def work(*_: object, outcome: Exception | None = outcome) -> str:
            if outcome:
                raise outcome
            return "done"

        monkeypatch.setattr(job_loop, "run", work)
        two.jobs.enqueue(JobKind.SYNC, "4")
        worker._jobs.run_next()
        assert [(item.key, item.reason) for item in two.journal.set_aside.items()] == (
            [("sync", "ZeroDivisionError: odd")] if outcome else []
        )


def test_a_job_that_cannot_be_read_stops_no_other(two: Services) -> None:
    two.jobs.enqueue(JobKind.SYNC, "8")
    with sqlite3.connect(two.home / "jobs.sqlite") as connection:
        connection.execute("UPDATE jobs SET kind = 'dance', rowid = -1")
    connection.close()
    job = two.jobs.enqueue(JobKind.SYNC, "8")
    assert [waiting.id for waiting in two.jobs.waiting()] == [job.id]
    assert two.jobs.latest("8", JobKind.SYNC)[0].state is JobState.WAITING
    Worker(two)._begin()
    assert [item.reason for item in two.journal.set_aside.items()] == [
        "the job cannot be read: 'dance' is not a valid JobKind"
    ]


def test_a_job_that_can_be_read_again_is_set_aside_no_longer(two: Services) -> None:
    two.jobs.enqueue(JobKind.EMBED, "8")
    for kind, left in (("dance", 1), ("embed", 0)):  # an upgrade that was undone, and done again
        with sqlite3.connect(two.home / "jobs.sqlite") as connection:
            connection.execute("UPDATE jobs SET kind = ? WHERE kind IN ('dance', 'embed')", (kind,))
        connection.close()
        Worker(two)._begin()
        assert len(two.journal.set_aside.items()) == left


def test_a_job_that_is_gone_is_set_aside_no_longer(two: Services) -> None:
    two.journal.set_aside.add(ItemKind.JOB, "", "0123456789ab", "the job cannot be read")
    two.journal.set_aside.add(ItemKind.JOB, "", JobKind.BACKBONE, "ZeroDivisionError: odd")
    Worker(two)._begin()
    assert [item.key for item in two.journal.set_aside.items()] == ["backbone"]


@pytest.mark.parametrize("restarted", [False, True])
def test_steps_of_a_disconnected_project_leave(
    two: Services, monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("taxonomist.backend.prediction.predictor.Predictor.model_version", fail)
    worker = Worker(two)
    worker._begin()
    for _ in range(2):
        worker.pulse()
    assert {(item.project, item.key) for item in two.journal.set_aside.items()} == {
        ("4", "announcements"),
        ("8", "announcements"),
    }
    two.projects.update("4", label_studio_url=None, api_key=None, ml_backend=None)
    if restarted:
        worker = Worker(Services(two.settings))
        worker._begin()
    worker.pulse()
    assert [(item.project, item.key) for item in two.journal.set_aside.items()] == [("8", "announcements")]


def test_a_job_of_a_disconnected_project_leaves(two: Services) -> None:
    two.journal.set_aside.add(ItemKind.JOB, "4", JobKind.SYNC, "ZeroDivisionError: odd")
    two.projects.update("4", label_studio_url=None, api_key=None, ml_backend=None)
    worker = Worker(two)
    worker._begin()
    while worker._jobs.run_next():
        pass
    assert two.journal.set_aside.items("4") == []
    assert "taxonomist connect" in two.jobs.latest("4", JobKind.SYNC)[0].outcome


def test_an_announcement_that_killed_three_workers_is_not_made_by_the_next_one(two: Services) -> None:
    def pushes() -> list[tuple[str, str]]:
        Worker(two).pulse()
        return [(job.project, job.id) for job in two.jobs.waiting() if job.kind is JobKind.PUSH]

    for attempt in range(MAX_ATTEMPTS):
        job = dict(pushes())["4"]
        assert two.jobs.start(job), attempt
        two.jobs.requeue_interrupted()
    assert [project for project, _ in pushes()] == ["8"]


def test_a_pre_training_whose_process_died_three_times_is_set_aside(services: Services) -> None:
    job = services.jobs.enqueue(JobKind.PRETRAIN)
    for _ in range(MAX_ATTEMPTS):
        services.jobs.requeue_interrupted()
        assert services.jobs.start(job.id)
    PretrainingProcess(services).poll()
    (item,) = services.journal.set_aside.items()
    assert (item.kind, item.key, item.reason) == ("job", "pretrain", "its process died 3 times")
    assert services.jobs.waiting() == []


def test_a_job_that_killed_three_workers_waits_for_the_next_start(two: Services) -> None:
    two.jobs.enqueue(JobKind.EMBED, "4")
    for attempt in range(MAX_ATTEMPTS):
        Worker(two)._begin()
        (job,) = (job for job in two.jobs.waiting() if job.kind is JobKind.EMBED)
        assert two.jobs.start(job.id), attempt
    Worker(two)._begin()
    assert JobKind.EMBED not in {job.kind for job in two.jobs.waiting()}
    Worker(two)._begin()
    assert JobKind.EMBED in {job.kind for job in two.jobs.waiting()}
