"""Folds events into the state. Each step is a maximum, so the order and repetition of events do not matter."""

import json
import sqlite3

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal.codec import decode, format_time
from taxonomist.storage.journal.events import (
    AnnotationDeleted,
    AnnotationSaved,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.storage.journal.state import Folded

__all__ = ["fold_slice"]


def fold_slice(connection: sqlite3.Connection, limit: int) -> Folded:
    """Fold at most `limit` events in the caller's write transaction, and return what changed."""
    (start,) = connection.execute("SELECT seq FROM folded").fetchone()
    rows = connection.execute(
        "SELECT seq, kind, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (start, limit)
    ).fetchall()
    fold = _Fold(connection)
    for row in rows:
        fold.step(row)
    position = rows[-1]["seq"] if rows else start
    if rows:
        connection.execute("UPDATE folded SET seq = ?", (position,))
    images, removed = fold.touched()
    return Folded(images, removed, len(rows), position)


class _Fold:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._touched: set[tuple[str, str]] = set()

    def step(self, row: sqlite3.Row) -> None:
        self._seq: int = row["seq"]
        event = decode(row["kind"], row["body"])
        match event:
            case AnnotationSaved():
                self._annotation_saved(event)
            case TaskSaved():
                self._task_saved(event)
            case AnnotationDeleted():
                self._deleted("annotation", event.project, event.annotation_id, event)
            case TaskDeleted():
                self._deleted("task", event.project, event.task_id, event)

    def touched(self) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
        """Return the images that this fold changed: those still in their project, and those that left it."""
        images: set[tuple[str, str]] = set()
        removed: set[tuple[str, str]] = set()
        for project, image in self._touched:
            (present,) = self._connection.execute(
                "SELECT present FROM dirty_images WHERE project = ? AND image_id = ?", (project, image)
            ).fetchone()
            (images if present else removed).add((project, image))
        return frozenset(images), frozenset(removed)

    def _touch(self, project: str, image: str) -> None:
        self._touched.add((project, image))
        self._connection.execute(
            "INSERT INTO dirty VALUES (?, ?, ?) ON CONFLICT (project, image_id) DO UPDATE SET seq = excluded.seq",
            (project, image, self._seq),
        )

    def _annotation_saved(self, event: AnnotationSaved) -> None:
        known = self._connection.execute(
            "SELECT created_at, updated_at, image_id FROM annotations WHERE project = ? AND annotation_id = ?",
            (event.project, event.annotation_id),
        ).fetchone()
        created, updated = format_time(event.created_at), format_time(event.updated_at)
        if known is not None and (created, updated) <= (known["created_at"], known["updated_at"]):
            return
        image = image_id(event.uri)
        self._connection.execute(
            "INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (event.project, event.annotation_id, event.task_id, image, event.uri, created, updated, _json(event.data)),
        )
        self._touch(event.project, image)
        if known is not None and known["image_id"] != image:
            self._touch(event.project, known["image_id"])

    def _task_saved(self, event: TaskSaved) -> None:
        known = self._connection.execute(
            "SELECT * FROM tasks WHERE project = ? AND task_id = ?", (event.project, event.task_id)
        ).fetchone()
        created = format_time(event.created_at)
        updated = format_time(event.updated_at or event.created_at)
        if known is not None and (created, updated, event.uri) <= (
            known["created_at"],
            known["updated_at"],
            known["uri"],
        ):
            return
        image, data = image_id(event.uri), _json(event.data)
        self._connection.execute(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?)",
            (event.project, event.task_id, image, event.uri, created, updated, data),
        )
        if known is not None and (known["image_id"], known["created_at"], known["data"]) == (image, created, data):
            return
        self._touch(event.project, image)
        self._touch_task(event.project, event.task_id)
        if known is not None and known["image_id"] != image:
            self._touch(event.project, known["image_id"])

    def _deleted(self, what: str, project: str, id: str, event: AnnotationDeleted | TaskDeleted) -> None:
        assert event.at is not None
        changed = self._connection.execute(
            "INSERT INTO deletions VALUES (?, ?, ?, ?) ON CONFLICT (project, what, id) DO UPDATE SET at = excluded.at"
            " WHERE excluded.at > at",
            (project, what, id, format_time(event.at)),
        ).rowcount
        if not changed:
            return
        if what == "task":
            self._touch_task(project, id)
            return
        for row in self._connection.execute(
            "SELECT image_id FROM annotations WHERE project = ? AND annotation_id = ?", (project, id)
        ).fetchall():
            self._touch(project, row["image_id"])

    def _touch_task(self, project: str, task_id: str) -> None:
        for table in ("tasks", "annotations"):
            for row in self._connection.execute(
                f"SELECT image_id FROM {table} WHERE project = ? AND task_id = ?",  # noqa: S608
                (project, task_id),
            ).fetchall():
                self._touch(project, row["image_id"])


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)
