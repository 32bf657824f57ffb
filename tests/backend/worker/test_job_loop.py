"""The thread that runs jobs: their order, and what a stop leaves in the job table."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state import room
from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobKind, JobState
from taxonomist.backend.worker import job_loop
from taxonomist.backend.worker.job_loop import JobLoop
from taxonomist.backend.worker.worker import Worker
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import StorageError
from tests.waiting import eventually


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[JobKind, str]]:
    """The jobs that ran, in order; the jobs themselves do nothing."""
    ran: list[tuple[JobKind, str]] = []

    def note(_services: Services, kind: JobKind, project: str, _progress: StepProgress) -> str:
        ran.append((kind, project))
        return "done"

    monkeypatch.setattr(job_loop, "run", note)
    return ran


def state_of(services: Services, job_id: str) -> tuple[JobState, int]:
    job = services.jobs.get(job_id)
    assert job is not None
    return job.state, job.attempts


def test_jobs_run_in_the_order_in_which_they_were_enqueued(services: Services, ran: list[tuple[JobKind, str]]) -> None:
    loop = JobLoop(services, threading.Event())
    jobs = [(JobKind.TRAIN, "7"), (JobKind.SYNC, "8"), (JobKind.TRAIN, "6")]
    for kind, project in jobs:
        services.jobs.enqueue(kind, project)
    while loop.run_next():
        pass
    assert ran == jobs
    assert services.jobs.waiting() == []


def test_jobs_that_a_person_waits_for_have_a_thread_of_their_own(
    services: Services, ran: list[tuple[JobKind, str]]
) -> None:
    services.jobs.enqueue(JobKind.TRAIN, "7")
    services.jobs.enqueue(JobKind.BULK, "7")
    worker = Worker(services)
    assert [worker._quick_jobs.run_next(), worker._quick_jobs.run_next()] == [True, False]
    assert ran == [(JobKind.BULK, "7")]
    services.jobs.enqueue(JobKind.BULK, "7")
    assert [worker._jobs.run_next(), worker._jobs.run_next()] == [True, False]
    assert ran[1:] == [(JobKind.TRAIN, "7")]


def test_an_interrupted_job_runs_before_newer_ones(services: Services, ran: list[tuple[JobKind, str]]) -> None:
    old = services.jobs.enqueue(JobKind.TRAIN, "7")
    services.jobs.start(old.id)
    services.jobs.enqueue(JobKind.SYNC, "8")
    services.jobs.requeue_interrupted()
    JobLoop(services, threading.Event()).run_next()
    assert ran == [(JobKind.TRAIN, "7")]


def test_a_pretraining_is_left_to_its_own_process(services: Services, ran: list[tuple[JobKind, str]]) -> None:
    job = services.jobs.enqueue(JobKind.PRETRAIN)
    assert not JobLoop(services, threading.Event()).run_next()
    assert (ran, state_of(services, job.id)) == ([], (JobState.WAITING, 0))


def test_the_thread_runs_a_job_that_is_enqueued_later(services: Services, ran: list[tuple[JobKind, str]]) -> None:
    stop = threading.Event()
    JobLoop(services, stop).start()
    try:
        job = services.jobs.enqueue(JobKind.SYNC, "7")
        eventually("the job", lambda: state_of(services, job.id) == (JobState.DONE, 1), every=0.02)
    finally:
        stop.set()


def test_no_job_begins_after_a_stop(services: Services, ran: list[tuple[JobKind, str]]) -> None:
    stop = threading.Event()
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    stop.set()
    assert not JobLoop(services, stop).run_next()
    assert (ran, state_of(services, job.id)) == ([], (JobState.WAITING, 0))


def test_a_stop_puts_the_running_job_back_and_does_not_count(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def wait(*_: object) -> str:
        begun.set()
        assert go_on.wait(30)
        return "done"

    monkeypatch.setattr(job_loop, "run", wait)
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    loop = JobLoop(services, stop)
    loop.start()
    assert begun.wait(30)
    stop.set()
    loop.requeue_running()
    assert state_of(services, job.id) == (JobState.WAITING, 0)
    go_on.set()  # when it ends before the process does, it is done all the same
    eventually("the end of the job", lambda: state_of(services, job.id)[0] is JobState.DONE, every=0.02)


def test_a_job_that_fails_in_a_stop_is_not_lost(services: Services) -> None:
    stop = threading.Event()
    services.jobs.enqueue(JobKind.SYNC, "7", "there is no Label Studio")
    job = services.jobs.start_next({JobKind.SYNC})
    assert job is not None
    stop.set()
    JobLoop(services, stop).run_job(job)
    assert state_of(services, job.id) == (JobState.WAITING, 0)


def test_an_unexpected_error_fails_the_job_and_not_the_loop(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(job_loop, "run", fail)
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    assert JobLoop(services, threading.Event()).run_next()
    ended = services.jobs.get(job.id)
    assert ended is not None
    assert (ended.state, ended.outcome) == (JobState.FAILED, "ZeroDivisionError: see the worker's log")


def test_an_error_of_the_disk_is_one_sentence(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", "/models")

    monkeypatch.setattr(job_loop, "run", fail)
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    JobLoop(services, threading.Event()).run_next()
    ended = services.jobs.get(job.id)
    assert ended is not None
    assert ended.outcome == "No permission to use /models (Permission denied). Check its owner and permissions."


def test_an_end_that_cannot_be_stored_is_stored_later(
    services: Services, ran: list[tuple[JobKind, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the job would count as running until the worker starts again, and no other of its kind would begin."""
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    loop = JobLoop(services, threading.Event())

    def full(*_: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(type(services.jobs), "finish", full)
        with pytest.raises(StorageError):
            loop.run_next()
    assert state_of(services, job.id) == (JobState.RUNNING, 1)
    assert not loop.run_next()
    assert state_of(services, job.id) == (JobState.DONE, 1)
    assert ran == [(JobKind.TRAIN, "7")]


NO_ROOM = [
    OSError(errno.ENOSPC, "No space left on device", "head.safetensors"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EROFS, "Read-only file system"),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("cause", NO_ROOM, ids=str)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_job_without_room_waits_for_it(
    services: Services, ran: list[tuple[JobKind, str]], monkeypatch: pytest.MonkeyPatch, cause: Exception, wrapped: bool
) -> None:
    done, free = vars(job_loop)["run"], 1_000_000

    def fail(*_: object) -> str:
        if not wrapped:
            raise cause
        raise StorageError("The model cannot be written.") from cause

    monkeypatch.setattr(room.WaitingForRoom, "_free", lambda _: free)
    loop = JobLoop(services, threading.Event())
    job = services.jobs.enqueue(JobKind.TRAIN, "7")
    services.jobs.enqueue(JobKind.SYNC, "8")
    for attempt in range(MAX_ATTEMPTS + 1):
        monkeypatch.setattr(job_loop, "run", fail)
        assert loop.run_next()
        free += 2 * room.ROOM_BYTES
        monkeypatch.setattr(job_loop, "run", done)
        if attempt == 0:
            free -= 2 * room.ROOM_BYTES
            assert loop.run_next()  # another job goes on meanwhile
            assert ran == [(JobKind.SYNC, "8")]
            assert not loop.run_next()
            free += 2 * room.ROOM_BYTES
    waiting = services.jobs.get(job.id)
    assert waiting is not None
    assert (waiting.state, waiting.attempts) == (JobState.WAITING, 0)
    assert waiting.step.startswith("waits for room on the disk: ")
    assert loop.run_next()
    assert state_of(services, job.id) == (JobState.DONE, 1)
    assert services.journal.set_aside.items() == []


def test_a_job_without_room_is_tried_again_after_a_while(
    services: Services, ran: list[tuple[JobKind, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    done = vars(job_loop)["run"]

    def fail(*_: object) -> str:
        raise NO_ROOM[1]  # a quota shows no free room

    monkeypatch.setattr("taxonomist.backend.state.room.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(job_loop, "run", fail)
    loop = JobLoop(services, threading.Event())
    services.jobs.enqueue(JobKind.TRAIN, "7")
    for pause in (30, 60, 120, 240, 480, 600, 600):
        assert loop.run_next()
        clock[0] += pause - 1
        assert not loop.run_next()
        clock[0] += 1
    monkeypatch.setattr(job_loop, "run", done)
    assert loop.run_next()
    assert ran == [(JobKind.TRAIN, "7")]


def test_a_job_table_that_fails_is_logged_once_a_minute(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("taxonomist.backend.repeated_error.time.monotonic", lambda: clock[0])
    caplog.set_level(logging.INFO)
    loop = JobLoop(services, threading.Event())
    table = services.home / "jobs.sqlite"

    def pass_by(seconds: float) -> list[str]:
        caplog.clear()
        for _ in range(int(seconds / job_loop.POLL_S)):
            assert not loop._run_next()
            clock[0] += job_loop.POLL_S
        return caplog.messages

    assert pass_by(10) == []
    table.rename(table.with_suffix(".aside"))
    table.mkdir()  # SQLite cannot open it
    (begun,) = pass_by(60)
    assert begun.startswith(f"jobs wait: Cannot open {table}")
    assert pass_by(600) == [begun] * 10
    table.rmdir()
    table.with_suffix(".aside").rename(table)
    assert pass_by(60) == ["jobs go on"]
    table.rename(table.with_suffix(".aside"))
    table.mkdir()
    assert pass_by(30) == [begun]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_jobs_give_way_to_requests(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    priorities: list[int] = []

    def note(*_: object) -> str:
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return "done"

    monkeypatch.setattr(job_loop, "run", note)
    services.jobs.enqueue(JobKind.TRAIN, "7")
    stop = threading.Event()
    JobLoop(services, stop).start()
    try:
        eventually("the job", lambda: priorities)
    finally:
        stop.set()
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert priorities == [max(own, 5)]
