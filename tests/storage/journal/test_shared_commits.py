"""Concurrent callers share a commit, and what one of them provokes costs that one only."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taxonomist.storage.journal import Journal
from taxonomist.storage.journal.codec import Row
from taxonomist.storage.sqlite import Database
from tests.waiting import eventually


@dataclass
class Callers:
    """Callers that wait for one commit together, while the first caller holds the journal."""

    journal: Journal
    go_on: threading.Event = field(default_factory=threading.Event)
    transactions: int = 0

    def insert(self, batches: list[list[Row]]) -> list[Future[int]]:
        shared = self.journal._commits
        with ThreadPoolExecutor(len(batches) + 1) as threads:
            first = threads.submit(shared.insert, [row(0)])
            eventually("the first one commits", lambda: self.transactions == 1, every=0.001)
            futures = []
            for rows in batches:
                futures.append(threads.submit(shared.insert, rows))
                eventually("it waits", lambda: len(shared._waiting) == len(futures), every=0.001)
            self.go_on.set()
        assert first.result() == 1
        return futures


@pytest.fixture
def callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callers]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        callers, write = Callers(journal), Database.write

        def counted(database: Database) -> AbstractContextManager[sqlite3.Connection]:
            callers.transactions += 1
            callers.go_on.wait()
            return write(database)

        monkeypatch.setattr(Database, "write", counted)
        yield callers


def row(number: int, body: str = "{}") -> Row:
    return Row(f"key {number}", "4", "task-saved", body)


def test_callers_that_wait_share_one_commit(callers: Callers) -> None:
    futures = callers.insert([[row(1), row(2)], [row(3)], [row(1)]])
    assert [future.result() for future in futures] == [2, 1, 0]
    assert (callers.transactions, callers.journal.pending()) == (2, 4)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_caller_whose_events_cannot_be_stored_fails_alone(callers: Callers, bad: int) -> None:
    batches = [[row(1)], [row(2)], [row(3)]]
    batches[bad] = [row(4), row(5, body="\ud800")]  # nothing of a caller is stored in part
    for number, future in enumerate(callers.insert(batches)):
        if number == bad:
            assert isinstance(future.exception(), UnicodeEncodeError)
        else:
            assert future.result() == 1
    assert (callers.transactions, callers.journal.pending()) == (5, 3)


def test_a_full_disk_is_tried_once_for_all(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sqlite3.Connection, rows: list[Row], now: float) -> int:
        if rows == [row(0)]:
            return 1
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("taxonomist.storage.journal.shared_commits._insert", fail)
    futures = callers.insert([[row(1)], [row(2)], [row(3)]])
    assert all(future.exception() is not None for future in futures)
    assert callers.transactions == 2
