"""The journal: records events, folds them into the state, and reads the state."""

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.journal.codec import Row, encode
from taxonomist.storage.journal.events import UNKNOWN_SOURCE, AnnotationDeleted, AnnotationSaved, Event, TaskDeleted
from taxonomist.storage.journal.fold import fold_slice
from taxonomist.storage.journal.migration import adopt
from taxonomist.storage.journal.schema import SCHEMA, VERSION
from taxonomist.storage.journal.state import (
    AnnotationRecord,
    Dirty,
    Folded,
    TaskRecord,
    annotation_record,
    task_record,
)
from taxonomist.storage.journal.twins import live_form, lives
from taxonomist.storage.journal.withdrawal import Withdrawal
from taxonomist.storage.sqlite import Database

__all__ = ["Journal"]

_SLICE = 500
_PAGE = 500
_PAUSE_S = 0.01


class Journal:
    """Events in a SQLite file that all threads and processes of taxonomist share.

    Every method raises `StorageError` when the file cannot be read or written, and `DamagedError` when it is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self._database = Database(path, SCHEMA, version=VERSION)
        self.withdrawal = Withdrawal(self._database)
        self._reset_queue()
        after_fork(self._reset_queue)

    def _reset_queue(self) -> None:
        self._queue = threading.Lock()
        self._waiting: list[_Batch] = []
        self._leading = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    # --- writing

    def record(self, events: Sequence[Event]) -> int:
        """Commit the events to the disk and return how many were new.

        An annotation is identified by (project, source, id, created_at, updated_at), other events accordingly; an event
        that is recorded already does not count again. Concurrent threads share one commit, so thousands of events
        should be recorded in portions, or a webhook waits for all of them. Raises `BadRequestError` when an event
        cannot be stored (a time without a zone, text that is not Unicode).
        """
        if not events:
            return 0
        batch = _Batch([encode(self._timed(event)) for event in events])
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

    def _timed(self, event: Event) -> Event:
        if isinstance(event, AnnotationDeleted | TaskDeleted) and event.at is None:
            return replace(event, at=datetime.now(UTC))
        return event

    def _commit(self, batches: "list[_Batch]") -> None:
        try:
            with self._database.write() as connection:
                now = time.time()
                for batch in batches:
                    batch.new = _insert(connection, batch.rows, now)
        except Exception as error:
            for batch in batches:
                batch.new, batch.error = 0, error
        finally:
            for batch in batches:
                batch.finished = True

    def fold(self) -> Folded:
        """Fold the recorded events into the state and return what changed since the last fold.

        Images stay dirty until `done`, so a crash after the fold loses nothing. The fold uses short transactions, so
        that webhooks are recorded in between.
        """
        total = Folded(frozenset(), frozenset(), 0, 0)
        while True:
            with self._database.write() as connection:
                part = fold_slice(connection, _SLICE)
            total = Folded(
                images=(total.images - part.removed) | part.images,
                removed=(total.removed - part.images) | part.removed,
                events=total.events + part.events,
                position=part.position,
            )
            if part.events < _SLICE:
                return total
            time.sleep(_PAUSE_S)

    def done(self, project: str, image_ids: Sequence[str] | frozenset[str], position: int) -> None:
        """Mark images as no longer dirty: the catalogue has their changes up to `position` (of `Folded` or `Dirty`).

        Images that have changed again since then stay dirty.
        """
        with self._database.write() as connection:
            connection.executemany(
                "DELETE FROM dirty WHERE project = ? AND image_id = ? AND seq <= ?",
                [(project, image_id, position) for image_id in image_ids],
            )

    def compact(self, keep_days: float) -> int:
        """Delete folded events received more than `keep_days` ago and return their number; the state stays."""
        limit = time.time() - keep_days * 86_400
        with self._database.write() as connection:
            return connection.execute(
                "DELETE FROM events WHERE received_at < ? AND seq <= (SELECT seq FROM folded)", (limit,)
            ).rowcount

    def adopt(
        self,
        project: str,
        source: str,
        *,
        former: str = UNKNOWN_SOURCE,
        tasks: Collection[str] | None = None,
        annotations: Collection[str] = (),
    ) -> int:
        """Give what the project has of the former source this source, and return how many tasks and annotations.

        Given `tasks`, only these with their annotations, and the further `annotations`.
        A webhook may come before the project's time of creation is known, and earlier releases stored no sources.
        """
        rows = " UNION ALL ".join(
            f"SELECT 1 FROM {table} WHERE project = ? AND source = ?"  # noqa: S608
            for table in ("annotations", "tasks", "deletions")
        )
        waiting = "SELECT 1 FROM events WHERE project = ? AND seq > (SELECT seq FROM folded)"
        unknown = (project, former)
        if self._row(f"{rows} UNION ALL {waiting} LIMIT 1", (*unknown, *unknown, *unknown, project)) is None:
            return 0
        with self._database.write() as connection:
            return adopt(connection, project, source, former, None if tasks is None else (tasks, annotations))

    # --- reading

    def pending(self) -> int:
        """Return the number of events that are recorded but not folded."""
        return int(self._one("SELECT count(*) FROM events WHERE seq > (SELECT seq FROM folded)", ())[0])

    def last_event_at(self, project: str) -> float | None:
        """Return when the last new event of the project was received, in seconds since 1970; None without events.

        A time in the future, from when our clock was ahead, counts as now.
        """
        row = self._row("SELECT last_event_at FROM projects WHERE project = ?", (project,))
        return None if row is None else min(float(row[0]), time.time())

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
