"""Reads the state of the journal: tasks and annotations as of the last fold, and what waits."""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator
from typing import Any

from taxonomist.storage.journal.events import AnnotationSaved
from taxonomist.storage.journal.state import AnnotationRecord, Dirty, TaskRecord, annotation_record, task_record
from taxonomist.storage.journal.twins import live_form, lives
from taxonomist.storage.sqlite import Database

_PAGE = 500


class JournalState:
    """What has been recorded and folded. `Journal` adds what writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self) -> int:
        """Return the number of events that are recorded but not folded."""
        return int(self._one("SELECT count(*) FROM events WHERE seq > (SELECT seq FROM folded)", ())[0])

    def waits_since(self) -> float | None:
        """Return when the oldest event that is not folded was received, in seconds since 1970; None without one."""
        row = self._row("SELECT received_at FROM events WHERE seq > (SELECT seq FROM folded) ORDER BY seq LIMIT 1", ())
        return None if row is None else float(row[0])

    def last_event_at(self, project: str) -> float | None:
        """Return when the last new event of the project was received, in seconds since 1970; None without events.

        A time in the future, from when our clock was ahead, becomes that of now: it is no older at each call.
        """
        row = self._row("SELECT last_event_at FROM projects WHERE project = ?", (project,))
        if row is None or float(row[0]) <= (now := time.time()):
            return None if row is None else float(row[0])
        with self._database.write() as connection:
            connection.execute("UPDATE projects SET last_event_at = ? WHERE project = ?", (now, project))
        return now

    def position(self) -> int:
        """Return the number of the last event that was recorded: the `read_after` of what is read from now on."""
        row = self._row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", ())
        return 0 if row is None else int(row[0])

    def sources(self, project: str) -> list[str]:
        """Return the sources of the project's live tasks and annotations, sorted."""
        query = (
            "SELECT source FROM live_tasks WHERE project = ? UNION SELECT source FROM live_annotations"
            " WHERE project = ? ORDER BY source"
        )
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query, (project, project))]

    def annotations(
        self,
        project: str,
        image_id: str | None = None,
        *,
        source: str | None = None,
        ids: Collection[str] | None = None,
    ) -> Iterator[AnnotationRecord]:
        """Yield the annotations that exist as of the last fold, ordered by source and annotation id.

        Given an image, a source or ids (which count within a source), only those. The annotations of a task with
        several images have the first one, unless an image is given.
        """
        view = "live_annotations" if image_id is None else "image_annotations"
        for row in self._pages(view, "annotation_id", project, image_id, source, ids):
            yield annotation_record(row)

    def tasks(
        self,
        project: str,
        image_id: str | None = None,
        *,
        source: str | None = None,
        ids: Collection[str] | None = None,
    ) -> Iterator[TaskRecord]:
        """Yield the tasks that exist as of the last fold, ordered by source and task id; see `annotations`."""
        view = "live_tasks" if image_id is None else "image_tasks"
        for row in self._pages(view, "task_id", project, image_id, source, ids):
            yield task_record(row)

    def dirty(self, project: str, limit: int | None = None, *, after: str = "") -> Dirty:
        """Return the images of the project that changed and are not done yet.

        At most `limit` of them, in the order of their ids, and only those after the id `after`.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT image_id, seq, present FROM dirty_images WHERE project = ? AND image_id > ?"
                " ORDER BY image_id LIMIT ?",
                (project, after, -1 if limit is None else limit),
            ).fetchall()
        return Dirty(
            images=frozenset(row["image_id"] for row in rows if row["present"]),
            removed=frozenset(row["image_id"] for row in rows if not row["present"]),
            position=max((row["seq"] for row in rows), default=0),
        )

    def lost(self, events: Collection[AnnotationSaved]) -> list[AnnotationSaved]:
        """Return those of the annotations that do not live under their own source as of the last fold."""
        with self._database.read() as connection:
            return [event for event in events if not lives(connection, event)]

    def counterpart(self, event: AnnotationSaved) -> tuple[AnnotationRecord | None, bool]:
        """Return the live annotation that counts for this one as of the last fold, and whether it was deleted.

        It is the annotation itself in its newest form, or the same annotation of another source. Without a record, it
        was deleted, or it could not be folded.
        """
        with self._database.read() as connection:
            row, is_deleted = live_form(connection, event)
        return (annotation_record(row) if row is not None else None), is_deleted

    def dirty_projects(self) -> list[str]:
        """Return the projects that have dirty images, sorted."""
        with self._database.read() as connection:
            return [row[0] for row in connection.execute("SELECT DISTINCT project FROM dirty ORDER BY project")]

    def _pages(
        self,
        view: str,
        key: str,
        project: str,
        image_id: str | None,
        source: str | None,
        ids: Collection[str] | None,
    ) -> Iterator[sqlite3.Row]:
        where, values = "project = ?", [project]
        for column, value in (("image_id", image_id), ("source", source)):
            if value is not None:
                where += f" AND {column} = ?"
                values.append(value)
        if ids is not None:
            where += f" AND {key} IN (SELECT value FROM json_each(?))"  # noqa: S608
            values.append(json.dumps(list(ids)))
        if image_id is not None or ids is not None:  # few; with a cursor, SQLite would not look ids up in the index
            with self._database.read() as connection:
                query = f"SELECT * FROM {view} WHERE {where} ORDER BY source, {key}"  # noqa: S608
                rows = connection.execute(query, values).fetchall()
            yield from rows
            return
        # In pages, because a long snapshot of a slow reader would prevent checkpoints of the write-ahead log.
        # Only columns that are not given are compared, or SQLite would scan the index from its start for each page.
        order = [key] if source is not None else ["source", key]
        names, marks = ", ".join(order), ", ".join("?" for _ in order)
        query = (
            f"SELECT * FROM {view} WHERE {where} AND ({names}) > ({marks})"  # noqa: S608
            f" ORDER BY {names} LIMIT {_PAGE}"
        )
        last = [""] * len(order)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, (*values, *last)).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = [rows[-1][column] for column in order]

    def _row(self, query: str, values: tuple[Any, ...]) -> sqlite3.Row | None:
        with self._database.read() as connection:
            row: sqlite3.Row | None = connection.execute(query, values).fetchone()
        return row

    def _one(self, query: str, values: tuple[Any, ...]) -> sqlite3.Row:
        row = self._row(query, values)
        assert row is not None
        return row
