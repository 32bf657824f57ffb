from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobKind, JobState, JobTable


@pytest.fixture
def table(tmp_path: Path) -> JobTable:
    return JobTable(tmp_path / "jobs.sqlite")


def test_asking_twice_is_asking_once(table: JobTable) -> None:
    first, second = table.enqueue(JobKind.TRAIN, "4", "pressed"), table.enqueue(JobKind.TRAIN, "4", "pressed again")
    assert first.id == second.id
    assert [job.id for job in table.waiting()] == [first.id]


def test_another_may_wait_while_one_runs(table: JobTable) -> None:
    first = table.enqueue(JobKind.TRAIN, "4")
    table.start(first.id)
    second = table.enqueue(JobKind.TRAIN, "4")
    assert second.id != first.id


def test_a_job_is_taken_once(table: JobTable) -> None:
    job = table.enqueue(JobKind.EMBED, "4")
    taken = table.start(job.id)
    assert taken is not None
    assert taken.state is JobState.RUNNING
    assert table.start(job.id) is None


def test_what_was_running_at_the_kill_waits_again(tmp_path: Path) -> None:
    table = JobTable(tmp_path / "jobs.sqlite")
    job = table.enqueue(JobKind.TRAIN, "4")
    table.start(job.id)
    after_the_kill = JobTable(tmp_path / "jobs.sqlite")
    assert [again.id for again in after_the_kill.requeue_interrupted()] == [job.id]
    assert [waiting.id for waiting in after_the_kill.waiting()] == [job.id]


def test_a_job_that_kills_its_worker_is_given_up(table: JobTable) -> None:
    job = table.enqueue(JobKind.TRAIN, "4")
    for _ in range(MAX_ATTEMPTS):
        assert table.start(job.id) is not None
        table.requeue_interrupted()
    ended = table.get(job.id)
    assert ended is not None
    assert ended.state is JobState.FAILED
    assert "died 3 times" in ended.outcome
    assert table.waiting() == []


def test_a_stop_is_no_attempt(table: JobTable) -> None:
    job = table.enqueue(JobKind.TRAIN, "4")
    for _ in range(MAX_ATTEMPTS + 1):
        assert table.start(job.id) is not None
        table.requeue(job.id)
    assert [(waiting.id, waiting.attempts) for waiting in table.waiting()] == [(job.id, 0)]
    table.requeue(job.id)  # it does not run
    table.start(job.id)
    table.finish(job.id, JobState.DONE, "well")
    table.requeue(job.id)
    assert table.waiting() == []


def test_a_stopped_job_gives_way_to_one_asked_for_since(table: JobTable) -> None:
    old = table.enqueue(JobKind.TRAIN, "4")
    table.start(old.id)
    new = table.enqueue(JobKind.TRAIN, "4")
    table.requeue(old.id)
    assert [job.id for job in table.waiting()] == [new.id]
    ended = table.get(old.id)
    assert ended is not None
    assert ended.state is JobState.FAILED


def test_only_some_kinds_are_taken_back(table: JobTable) -> None:
    jobs = [table.enqueue(JobKind.TRAIN, "4"), table.enqueue(JobKind.PRETRAIN)]
    for job in jobs:
        table.start(job.id)
    assert [job.kind for job in table.requeue_interrupted({JobKind.TRAIN})] == [JobKind.TRAIN]
    assert [job.id for job in table.running(JobKind.PRETRAIN)] == [jobs[1].id]


def test_an_interrupted_job_gives_way_to_one_asked_for_since(table: JobTable) -> None:
    old = table.enqueue(JobKind.TRAIN, "4")
    table.start(old.id)
    new = table.enqueue(JobKind.TRAIN, "4")
    assert table.requeue_interrupted() == []
    assert [job.id for job in table.waiting()] == [new.id]


def test_progress_and_end(table: JobTable) -> None:
    job = table.enqueue(JobKind.TRAIN, "4", "pressed")
    table.start(job.id)
    table.progress(job.id, "embedding", 1.7)
    running = table.get(job.id)
    assert running is not None
    assert (running.step, running.done) == ("embedding", 1.0)
    table.finish(job.id, JobState.DONE, "v1 is promoted")
    (ended,) = table.latest("4")
    assert (ended.state, ended.outcome, ended.reason) == (JobState.DONE, "v1 is promoted", "pressed")
    assert table.delete_old(days=-1) == 1
    assert table.latest("4") == []


def test_jobs_of_a_clock_that_was_ahead_do_not_come_first_or_last(
    table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ahead:
        ahead.setattr("taxonomist.backend.state.jobs.time.time", lambda: 1.9e9)
        first = table.enqueue(JobKind.TRAIN, "4")
        table.start(first.id)
        table.finish(first.id, JobState.FAILED, "long ago")
        waiting = table.enqueue(JobKind.EMBED, "4")
    second = table.enqueue(JobKind.TRAIN, "4")
    assert [job.id for job in table.waiting()] == [waiting.id, second.id]
    assert [job.id for job in table.latest("4", JobKind.TRAIN)] == [second.id, first.id]
