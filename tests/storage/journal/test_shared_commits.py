"""Concurrent callers share a commit, and what one of them provokes costs that one only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from taxonomist.storage.journal import Journal
from taxonomist.storage.journal.codec import Row
from taxonomist.storage.journal.shared_commits import SharedCommits
from taxonomist.storage.sqlite import Database
from tests.waiting import eventually


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture
def commits(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many transactions there were."""
    write, seen = Database.write, [0]

    def counted(database: Database) -> AbstractContextManager[sqlite3.Connection]:
        seen[0] += 1
        return write(database)

    monkeypatch.setattr(Database, "write", counted)
    return seen


def row(number: int, body: str = "{}") -> Row:
    return Row(f"key {number}", "4", "task-saved", body)


@contextmanager
def waiting_together(shared: SharedCommits, batches: list[list[Row]]) -> Iterator[list[Future[int]]]:
    """Let these callers wait for one commit, in this order, and then go on."""
    with ThreadPoolExecutor(len(batches)) as threads:
        with shared._leading:
            futures = []
            for number, rows in enumerate(batches, start=1):
                futures.append(threads.submit(shared.insert, rows))
                eventually("it waits", lambda number=number: len(shared._waiting) == number, every=0.001)
        yield futures


def test_callers_that_wait_share_one_commit(journal: Journal, commits: list[int]) -> None:
    batches = [[row(1), row(2)], [row(3)], [row(1)]]
    with waiting_together(journal._commits, batches) as futures:
        assert [future.result() for future in futures] == [2, 1, 0]
    assert (commits, journal.pending()) == ([1], 3)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_caller_whose_events_cannot_be_stored_fails_alone(journal: Journal, commits: list[int], bad: int) -> None:
    batches = [[row(1)], [row(2)], [row(3)]]
    batches[bad] = [row(4), row(5, body="\ud800")]  # nothing of a caller is stored in part
    with waiting_together(journal._commits, batches) as futures:
        for number, future in enumerate(futures):
            if number == bad:
                with pytest.raises(UnicodeEncodeError):
                    future.result()
            else:
                assert future.result() == 1
    assert (commits, journal.pending()) == ([4], 2)


def test_a_full_disk_is_tried_once_for_all(
    journal: Journal, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("taxonomist.storage.journal.shared_commits._insert", fail)
    with waiting_together(journal._commits, [[row(1)], [row(2)], [row(3)]]) as futures:
        assert all(future.exception() is not None for future in futures)
    assert commits == [1]
