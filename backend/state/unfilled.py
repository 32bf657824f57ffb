"""The tasks that got an empty answer for want of time, or because their image could not be read at that moment.

Label Studio stores the empty answer and never asks for that version again, so the worker fills them. Each try that
fails doubles the time to the next one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from taxonomist.storage.sqlite import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS unfilled (
    project TEXT NOT NULL, task_id TEXT NOT NULL, asked_at REAL NOT NULL, tries INTEGER NOT NULL, next_at REAL NOT NULL,
    PRIMARY KEY (project, task_id)
) STRICT, WITHOUT ROWID"""

FIRST_RETRY_S = 60.0
LAST_RETRY_S = 86_400.0


@dataclass(frozen=True)
class UnfilledTask:
    """A task to fill. `asked_at` is when Label Studio asked for it last, in seconds since 1970; 0 when it did not."""

    task_id: str
    asked_at: float


class UnfilledTasks:
    """A table in the file of the jobs, shared by the server and the worker.

    Every method raises `StorageError` when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def add(self, project: str, task_ids: Collection[str], *, asked: bool) -> None:
        """Add tasks; `asked` says that Label Studio asked for them and stores the empty answer now."""
        now = time.time()
        if task_ids:
            with self._database.write() as db:
                db.executemany(
                    "INSERT INTO unfilled VALUES (?, ?, ?, 0, ?) ON CONFLICT (project, task_id)"
                    " DO UPDATE SET asked_at = max(asked_at, excluded.asked_at), tries = 0, next_at = excluded.next_at",
                    [(project, task_id, now if asked else 0.0, now) for task_id in task_ids],
                )

    def due(self, project: str) -> list[UnfilledTask]:
        """Return the project's tasks that are to be tried now."""
        now = time.time()
        # Times later than they can be come from a clock that was ahead: they become those of now.
        late = "project = ? AND (asked_at > ? OR next_at > ? + min(?, ? * (1 << min(max(tries - 1, 0), 20))))"
        values = (project, now, now, LAST_RETRY_S, FIRST_RETRY_S)
        with self._database.read() as db:
            is_late = db.execute(f"SELECT 1 FROM unfilled WHERE {late} LIMIT 1", values).fetchone() is not None  # noqa: S608
        if is_late:
            with self._database.write() as db:
                db.execute(
                    f"UPDATE unfilled SET asked_at = min(asked_at, ?), next_at = min(next_at, ?) WHERE {late}",  # noqa: S608
                    (now, now, *values),
                )
        with self._database.read() as db:
            rows = db.execute(
                "SELECT task_id, asked_at FROM unfilled WHERE project = ? AND next_at <= ? ORDER BY task_id",
                (project, now),
            ).fetchall()
        return [UnfilledTask(row["task_id"], row["asked_at"]) for row in rows]

    def count(self, project: str) -> int:
        """Return how many tasks of the project wait for an answer."""
        with self._database.read() as db:
            return int(db.execute("SELECT count(*) FROM unfilled WHERE project = ?", (project,)).fetchone()[0])

    def forget(self, project: str) -> None:
        """Remove all tasks of a project."""
        with self._database.write() as db:
            db.execute("DELETE FROM unfilled WHERE project = ?", (project,))

    def postpone(self, project: str, task_ids: Collection[str]) -> None:
        """Try these tasks again later."""
        now = time.time()
        with self._database.write() as db:
            db.executemany(
                "UPDATE unfilled SET tries = tries + 1, next_at = ? + min(?, ? * (1 << min(tries, 20)))"
                " WHERE project = ? AND task_id = ?",
                [(now, LAST_RETRY_S, FIRST_RETRY_S, project, task_id) for task_id in task_ids],
            )

    def remove(self, project: str, task_ids: Collection[str]) -> None:
        """Forget tasks that are answered, or that need no answer any more."""
        with self._database.write() as db:
            db.executemany(
                "DELETE FROM unfilled WHERE project = ? AND task_id = ?",
                [(project, task_id) for task_id in task_ids],
            )
