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
        self._leading = threading.Lock()

    def insert(self, rows: list[Row]) -> int:
        """Commit the events to the disk and return how many were new."""
        batch = _Batch(rows)
        with self._queue:
            self._waiting.append(batch)
        with self._leading:
            if not batch.finished:
                # The first thread commits the batches of all waiting threads.
                with self._queue:
                    batches, self._waiting = self._waiting, []
                self._commit(batches)
        if batch.error is not None:
            raise batch.error
        return batch.new

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


@dataclass
class _Batch:
    """The events of one caller that wait for a shared commit."""

    rows: list[Row]
    new: int = 0
    error: Exception | None = None
    finished: bool = field(default=False)


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
