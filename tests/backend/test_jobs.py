from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobBook, Kind, State


@pytest.fixture
def book(tmp_path: Path) -> JobBook:
    return JobBook(tmp_path / "jobs.sqlite")


def test_asking_twice_is_asking_once(book: JobBook) -> None:
    first, second = book.ask(Kind.TRAIN, "4", "pressed"), book.ask(Kind.TRAIN, "4", "pressed again")
    assert first.id == second.id
    assert [job.id for job in book.waiting()] == [first.id]


def test_another_may_wait_while_one_runs(book: JobBook) -> None:
    first = book.ask(Kind.TRAIN, "4")
    book.start(first.id)
    second = book.ask(Kind.TRAIN, "4")
    assert second.id != first.id


def test_a_job_is_taken_once(book: JobBook) -> None:
    job = book.ask(Kind.EMBED, "4")
    taken = book.start(job.id)
    assert taken is not None
    assert taken.state is State.RUNNING
    assert book.start(job.id) is None


def test_what_was_running_at_the_kill_waits_again(tmp_path: Path) -> None:
    book = JobBook(tmp_path / "jobs.sqlite")
    job = book.ask(Kind.TRAIN, "4")
    book.start(job.id)
    after_the_kill = JobBook(tmp_path / "jobs.sqlite")
    assert [again.id for again in after_the_kill.take_back()] == [job.id]
    assert [waiting.id for waiting in after_the_kill.waiting()] == [job.id]


def test_a_job_that_kills_its_worker_is_given_up(book: JobBook) -> None:
    job = book.ask(Kind.TRAIN, "4")
    for _ in range(MAX_ATTEMPTS):
        assert book.start(job.id) is not None
        book.take_back()
    ended = book.get(job.id)
    assert ended is not None
    assert ended.state is State.FAILED
    assert "died 3 times" in ended.outcome
    assert book.waiting() == []


def test_a_stop_is_no_attempt(book: JobBook) -> None:
    job = book.ask(Kind.TRAIN, "4")
    for _ in range(MAX_ATTEMPTS + 1):
        assert book.start(job.id) is not None
        book.put_back(job.id)
    assert [(waiting.id, waiting.attempts) for waiting in book.waiting()] == [(job.id, 0)]
    book.put_back(job.id)  # it does not run
    book.start(job.id)
    book.end(job.id, State.DONE, "well")
    book.put_back(job.id)
    assert book.waiting() == []


def test_a_stopped_job_gives_way_to_one_asked_for_since(book: JobBook) -> None:
    old = book.ask(Kind.TRAIN, "4")
    book.start(old.id)
    new = book.ask(Kind.TRAIN, "4")
    book.put_back(old.id)
    assert [job.id for job in book.waiting()] == [new.id]
    ended = book.get(old.id)
    assert ended is not None
    assert ended.state is State.FAILED


def test_only_some_kinds_are_taken_back(book: JobBook) -> None:
    jobs = [book.ask(Kind.TRAIN, "4"), book.ask(Kind.PRETRAIN)]
    for job in jobs:
        book.start(job.id)
    assert [job.kind for job in book.take_back({Kind.TRAIN})] == [Kind.TRAIN]
    assert [job.id for job in book.running(Kind.PRETRAIN)] == [jobs[1].id]


def test_an_interrupted_job_gives_way_to_one_asked_for_since(book: JobBook) -> None:
    old = book.ask(Kind.TRAIN, "4")
    book.start(old.id)
    new = book.ask(Kind.TRAIN, "4")
    assert book.take_back() == []
    assert [job.id for job in book.waiting()] == [new.id]


def test_progress_and_end(book: JobBook) -> None:
    job = book.ask(Kind.TRAIN, "4", "pressed")
    book.start(job.id)
    book.progress(job.id, "embedding", 1.7)
    running = book.get(job.id)
    assert running is not None
    assert (running.step, running.done) == ("embedding", 1.0)
    book.end(job.id, State.DONE, "v1 is promoted")
    (ended,) = book.latest("4")
    assert (ended.state, ended.outcome, ended.reason) == (State.DONE, "v1 is promoted", "pressed")
    assert book.forget_old(days=-1) == 1
    assert book.latest("4") == []
