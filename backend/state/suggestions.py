"""What was suggested: for each task, control and model version the path, its score and the time.

Label Studio's predictions of older versions are removed. This table stays, so that the suggestions that annotators
accepted can still be counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.paths import TaxonomyPath

_SCHEMA = """
CREATE TABLE IF NOT EXISTS suggestions (
    project TEXT NOT NULL, task_id TEXT NOT NULL, control TEXT NOT NULL, version TEXT NOT NULL,
    image_id TEXT NOT NULL, path TEXT NOT NULL, score REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (project, task_id, control, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS suggestions_image ON suggestions (image_id)"""


@dataclass(frozen=True)
class StoredSuggestion:
    """A suggestion for a control of a task. `version` is the name that Label Studio knows, `at` seconds since 1970."""

    task_id: str
    control: str
    version: str
    image_id: str
    path: TaxonomyPath
    score: float
    at: float


class SuggestionTable:
    """Suggestions in a file of their own, shared by the server and the worker; one per task, control and version.

    Each request for predictions writes it, so a commit does not wait for the disk: a loss of power may cost the last
    suggestions, the end of a process none. Every method raises `StorageError` when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, durable=False)

    def add(self, project: str, suggestions: Sequence[StoredSuggestion]) -> None:
        """Add suggestions. One that is repeated keeps its time; another path of the same version replaces it."""
        if not suggestions:
            return
        rows = [
            (project, row.task_id, row.control, row.version, row.image_id, json.dumps(row.path), row.score, row.at)
            for row in suggestions
        ]
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO suggestions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (project, task_id, control, version) DO UPDATE"
                " SET image_id = excluded.image_id, path = excluded.path, score = excluded.score, at = excluded.at"
                " WHERE image_id <> excluded.image_id OR path <> excluded.path",
                rows,
            )

    def of_tasks(self, project: str, task_ids: Collection[str]) -> list[StoredSuggestion]:
        """Return the suggestions for these tasks, ordered by task, control and time."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM suggestions WHERE project = ? AND task_id IN (SELECT value FROM json_each(?))"
                " ORDER BY task_id, control, at",
                (project, json.dumps(list(task_ids))),
            ).fetchall()
        return [
            StoredSuggestion(
                task_id=row["task_id"],
                control=row["control"],
                version=row["version"],
                image_id=row["image_id"],
                path=tuple(json.loads(row["path"])),
                score=row["score"],
                at=row["at"],
            )
            for row in rows
        ]

    def count(self, project: str) -> int:
        """Return the number of suggestions of a project."""
        with self._database.read() as connection:
            query = "SELECT count(*) FROM suggestions WHERE project = ?"
            return int(connection.execute(query, (project,)).fetchone()[0])

    def count_of_image(self, image_id: str) -> int:
        """Return the number of suggestions for an image, in all projects."""
        with self._database.read() as connection:
            query = "SELECT count(*) FROM suggestions WHERE image_id = ?"
            return int(connection.execute(query, (image_id,)).fetchone()[0])

    def erase_deleted(self) -> None:
        """See `Database.erase_deleted`."""
        self._database.erase_deleted()

    def delete(
        self,
        *,
        project: str | None = None,
        task_ids: Collection[str] | None = None,
        image_ids: Collection[str] | None = None,
    ) -> int:
        """Delete the suggestions that meet all the conditions that are given; return how many.

        `delete(project="4")` deletes those of a project, `delete(image_ids=[…])` those for images in all projects.
        Raises `ValueError` without any condition.
        """
        conditions: list[tuple[str, str]] = []
        if project is not None:
            conditions.append(("project = ?", project))
        if task_ids is not None:
            conditions.append(("task_id IN (SELECT value FROM json_each(?))", json.dumps(list(task_ids))))
        if image_ids is not None:
            conditions.append(("image_id IN (SELECT value FROM json_each(?))", json.dumps(list(image_ids))))
        if not conditions:
            raise ValueError("delete() needs a condition")
        where = " AND ".join(condition for condition, _ in conditions)
        with self._database.write() as connection:
            query = f"DELETE FROM suggestions WHERE {where}"  # noqa: S608
            return connection.execute(query, [value for _, value in conditions]).rowcount
