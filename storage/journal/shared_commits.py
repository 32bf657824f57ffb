"""Commits the events of concurrent callers together: a commit waits for the disk, whatever its size."""

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.journal.codec import Row
from taxonomist.storage.sqlite import Database, concerns_all


class SharedCommits:
    """Inserts events; threads that do so at the same time share one commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._queue = threading.Lock()
        self._waiting: list[_Batch] = []
        self._is_led = False  # whether a thread commits, or is just about to

    def insert(self, rows: list[Row]) -> int:
        """Commit the events to the disk and return how many were new."""
        batch = _Batch(rows)
        with self._queue:
            self._waiting.append(batch)
            leads, self._is_led = not self._is_led, True
        if not leads:
            batch.turn.acquire()  # until another thread has committed the batch, or lets this one lead
        if not batch.finished:
            self._lead(batch)
        if batch.error is not None:
            raise batch.error
        return batch.new

    def _lead(self, own: "_Batch") -> None:
        """Commit the batches of all waiting threads, and let each of them go on at once.

        Those that came meanwhile are led by the first of them, so that no thread commits for others without end.
        """
        with self._queue:
            batches, self._waiting = self._waiting, []
        try:
            self._commit(batches)
        finally:
            with self._queue:
                next_leader = self._waiting[0] if self._waiting else None
                self._is_led = next_leader is not None
            for batch in (next_leader, *batches):
                if batch is not None and batch is not own:
                    batch.turn.release()

    def _commit(self, batches: "list[_Batch]") -> None:
        """Commit the batches together; what one of them provokes costs that one only."""
        try:
            with self._database.write() as connection:
                now = time.time()
                for batch in batches:
                    batch.new = _insert(connection, batch.rows, now)
        except Exception as error:
            if len(batches) > 1 and not concerns_all(error):
                for batch in batches:
                    self._commit([batch])
                return
            for batch in batches:
                batch.new, batch.error = 0, error
        finally:
            for batch in batches:
                batch.finished = True


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass
class _Batch:
    """The events of one caller that wait for a shared commit."""

    rows: list[Row]
    new: int = 0
    error: Exception | None = None
    finished: bool = False
    turn: threading.Lock = field(default_factory=_taken_lock)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row], now: float) -> int:
    new = 0
    for row in rows:
        inserted = connection.execute(
            "INSERT INTO events (key, project, kind, received_at, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO NOTHING",
            (row.key, row.project, row.kind, now, row.body),
        ).rowcount
        if inserted:
            new += 1
            connection.execute(
                "INSERT INTO projects (project, last_event_at) VALUES (?, ?) ON CONFLICT (project) DO UPDATE"
                " SET last_event_at = excluded.last_event_at",
                (row.project, now),
            )
    return new
