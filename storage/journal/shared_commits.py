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
        self._waiting: list[_Caller] = []
        self._is_led = False  # whether a thread commits, or is just about to

    def insert(self, rows: list[Row]) -> int:
        """Commit the events to the disk and return how many were new."""
        (result,) = self.insert_each([rows])
        if isinstance(result, Exception):
            raise result
        return result

    def insert_each(self, groups: Sequence[list[Row]]) -> list[int | Exception]:
        """Commit groups of events to the disk together.

        Return how many of each group were new, or the error that it provoked: then nothing of that group is stored.
        """
        own = _Caller([_Group(rows) for rows in groups])
        with self._queue:
            self._waiting.append(own)
            leads, self._is_led = not self._is_led, True
        if not leads:
            own.turn.acquire()  # until another thread has committed its groups, or lets this one lead
        if not own.finished:
            self._lead(own)
        return [group.new if group.error is None else group.error for group in own.groups]

    def _lead(self, own: "_Caller") -> None:
        """Commit the groups of all waiting threads, and let each of them go on at once.

        Those that came meanwhile are led by the first of them, so that no thread commits for others without end.
        """
        with self._queue:
            callers, self._waiting = self._waiting, []
        try:
            self._commit([group for caller in callers for group in caller.groups])
        finally:
            with self._queue:
                next_leader = self._waiting[0] if self._waiting else None
                self._is_led = next_leader is not None
            for caller in callers:
                caller.finished = True
            for other in (next_leader, *callers):
                if other is not None and other is not own:
                    other.turn.release()

    def _commit(self, groups: "list[_Group]") -> None:
        """Commit the groups together; what one of them provokes costs that one only."""
        try:
            with self._database.write() as connection:
                now = time.time()
                for group in groups:
                    group.new = _insert(connection, group.rows, now)
                projects = {row.project for group in groups if group.new for row in group.rows}
                connection.executemany(
                    "INSERT INTO projects (project, last_event_at) VALUES (?, ?) ON CONFLICT (project) DO UPDATE"
                    " SET last_event_at = excluded.last_event_at",
                    [(project, now) for project in projects],
                )
        except Exception as error:
            if len(groups) > 1 and not concerns_all(error):
                for group in groups:
                    self._commit([group])
                return
            for group in groups:
                group.new, group.error = 0, error


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass
class _Group:
    """Events that are stored together or not at all."""

    rows: list[Row]
    new: int = 0
    error: Exception | None = None


@dataclass
class _Caller:
    """A thread that waits for a shared commit."""

    groups: list[_Group]
    finished: bool = False
    turn: threading.Lock = field(default_factory=_taken_lock)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row], now: float) -> int:
    return connection.executemany(
        "INSERT INTO events (key, project, kind, received_at, body) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        [(row.key, row.project, row.kind, now, row.body) for row in rows],
    ).rowcount
