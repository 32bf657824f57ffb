"""Those who record events wait for each other, and for a fold, as short as can be."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from taxonomist.storage.journal import Journal
from taxonomist.storage.journal import fold as fold_module
from taxonomist.storage.journal import journal as journal_module
from taxonomist.storage.sqlite import Database
from tests.storage.journal.test_journal import saved

WAIT_S = 20.0


def test_a_fold_that_is_slow_lets_webhooks_come_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    pauses: list[int] = []
    with Journal(tmp_path / "journal.sqlite") as folding, Journal(tmp_path / "journal.sqlite") as server:
        server.record([saved(str(n), uri=f"/data/upload/4/{n}.jpg") for n in range(100)])

        def record_between(_seconds: float) -> None:
            pauses.append(folding.pending())
            if len(pauses) == 1:
                server.record([saved("late", uri="/data/upload/4/late.jpg")])

        # Each look at the clock finds it 4 ms later: the thread that folds waits for the interpreter's lock.
        monkeypatch.setattr(fold_module, "time", SimpleNamespace(monotonic=lambda: 0.004 * next(clock)))
        monkeypatch.setattr(journal_module, "time", SimpleNamespace(sleep=record_between, time=time.time))
        folded = folding.fold()
        assert (folded.events, len(folded.images), folding.pending()) == (101, 101, 0)
    assert pauses[0] >= 90
    assert len(pauses) >= 10


def test_each_transaction_of_a_fold_makes_headway(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.record([saved(str(n)) for n in range(7)])
    monkeypatch.setattr(journal_module, "_SLICE_S", -1.0)
    monkeypatch.setattr(journal_module, "_PAUSE_S", 0.0)
    assert journal.fold().events == 7
    assert journal.fold().events == 0


def test_old_events_go_in_portions_so_that_webhooks_come_between(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    journal.record([saved(str(n), updated=n) for n in range(450)])
    journal.fold()
    recorded: list[int] = []
    with Journal(tmp_path / "journal.sqlite") as server:

        def record_between(_seconds: float) -> None:
            recorded.append(server.record([saved(f"late {len(recorded)}")]))

        monkeypatch.setattr(journal_module, "time", SimpleNamespace(sleep=record_between, time=time.time))
        assert journal.compact(-1) == 450
    assert recorded == [1, 1]
    monkeypatch.undo()
    assert journal.fold().events == 2


def test_callers_that_come_during_a_commit_share_the_next_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _gated(monkeypatch) as commits, ThreadPoolExecutor(12) as pool:
        first = pool.submit(journal.record, [saved("0")])
        commits.wait_for(1)
        others = [pool.submit(journal.record, [saved(str(n))]) for n in range(1, 9)]
        _wait_until(lambda: len(journal._commits._waiting) == 8)
        commits.open()
        assert first.result(WAIT_S) == 1
        commits.wait_for(2)
        later = pool.submit(journal.record, [saved("9")])
        _wait_until(lambda: len(journal._commits._waiting) == 1)
        commits.open()
        commits.wait_for(3)
        # The third commit has begun and waits; no caller of the second one waits for it.
        assert [other.result(WAIT_S) for other in others] == [1] * 8
        assert not later.done()
        commits.open()
        assert later.result(WAIT_S) == 1
    assert journal.record([saved("10")]) == 1, "the next one leads again"
    assert journal.fold().events == 11


def test_a_commit_that_fails_lets_the_next_callers_go_on(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    with _gated(monkeypatch) as commits, ThreadPoolExecutor(4) as pool:
        first = pool.submit(journal.record, [saved("0")])
        commits.wait_for(1)
        other = pool.submit(journal.record, [saved("1")])
        _wait_until(lambda: len(journal._commits._waiting) == 1)
        commits.open(sqlite3.OperationalError("disk I/O error"))
        with pytest.raises(sqlite3.OperationalError):
            first.result(WAIT_S)
        commits.wait_for(2)
        commits.open()
        assert other.result(WAIT_S) == 1


class _Gate:
    """Lets one write transaction begin at a time, or fail."""

    def __init__(self) -> None:
        self._began = threading.Semaphore(0)
        self._goes_on: list[Future[None]] = []
        self._count = 0

    def pass_through(self) -> None:
        gate: Future[None] = Future()
        self._goes_on.append(gate)
        self._began.release()
        gate.result(WAIT_S)

    def wait_for(self, number: int) -> None:
        while self._count < number:
            assert self._began.acquire(timeout=WAIT_S)
            self._count += 1

    def open(self, error: Exception | None = None) -> None:
        gate = self._goes_on[-1]
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)


@contextmanager
def _gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Gate]:
    gate, write = _Gate(), Database.write

    @contextmanager
    def gated(database: Database) -> Iterator[sqlite3.Connection]:
        gate.pass_through()
        with write(database) as connection:
            yield connection

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", gated)
        yield gate


def _wait_until(condition: object) -> None:
    assert callable(condition)
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal
