"""Folds events into the state, see `schema`. For webhooks each step is a maximum, so that order and repetition of
events do not matter; what was read from the source replaces what has not changed since."""

import json
import logging
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal.codec import decode, format_time
from taxonomist.storage.journal.events import (
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
    is_label_studio,
)
from taxonomist.storage.journal.twins import twins, unique_id_of
from taxonomist.storage.set_aside import ItemKind, describe, put_aside, take_back
from taxonomist.storage.sqlite import concerns_all

log = logging.getLogger(__name__)

__all__ = ["Slice", "fold_slice"]


@dataclass(frozen=True)
class Slice:
    """What a transaction has folded: the images that it touched, the number of events, the last one of them, and
    whether no other event waits."""

    touched: set[tuple[str, str]]
    events: int
    position: int
    is_last: bool


_ORIGIN = ("completed_by", "parent_prediction", "unique_id", "bulk_created")


def fold_slice(connection: sqlite3.Connection, limit_s: float) -> Slice:
    """Fold events in the caller's write transaction for `limit_s` seconds, at least one if there is any.

    The limit is of time, since other threads may make each step slow: webhooks of other processes wait for the end of
    the transaction.
    """
    ends = time.monotonic() + limit_s
    (position,) = connection.execute("SELECT seq FROM folded").fetchone()
    fold, events, is_last = _Fold(connection), 0, True
    rows = connection.execute(
        "SELECT seq, project, kind, received_at, body FROM events WHERE seq > ? ORDER BY seq", (position,)
    )
    for row in rows:
        if events and time.monotonic() > ends:
            is_last = False
            break
        fold.step_alone(row)
        events += 1
        position = row["seq"]
    rows.close()
    if events:
        connection.execute("UPDATE folded SET seq = ?", (position,))
    return Slice(fold.touched, events, position, is_last)


class _Fold:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.touched: set[tuple[str, str]] = set()  # project and id of the images that changed
        rows = connection.execute("SELECT key FROM set_aside WHERE kind = 'event'")
        self._aside = {row["key"] for row in rows}

    def step_alone(self, row: sqlite3.Row) -> None:
        """Fold one event. One that cannot be folded is set aside: it must not stop the events after it."""
        self._connection.execute("SAVEPOINT event")
        touched, key = set(self.touched), str(row["seq"])
        try:
            self.step(row)
        except Exception as error:
            if concerns_all(error) or isinstance(error, MemoryError):
                raise
            log.exception(
                "event %s of the journal (%s) cannot be used and is left out: it is set aside", key, row["kind"]
            )
            self._connection.execute("ROLLBACK TO event")
            self.touched = touched
            reason = f"{row['kind']}: {describe(error)}"
            put_aside(self._connection, ItemKind.EVENT, row["project"], key, reason)
        else:
            if key in self._aside:
                take_back(self._connection, ItemKind.EVENT, row["project"], [key])
        self._connection.execute("RELEASE event")

    def step(self, row: sqlite3.Row) -> None:
        self._seq: int = row["seq"]
        self._received = format_time(datetime.fromtimestamp(row["received_at"], UTC))
        event = decode(row["kind"], row["body"])
        match event:
            case AnnotationSaved():
                self._annotation_saved(event)
            case TaskSaved():
                self._task_saved(event)
            case AnnotationDeleted():
                self._deleted("annotation", event.annotation_id, event)
            case TaskDeleted():
                self._deleted("task", event.task_id, event)

    def _annotation_saved(self, event: AnnotationSaved) -> None:
        known = next(iter(self._rows("annotations", "annotation_id", event, event.annotation_id)), None)
        born, as_of = self._believed(event.created_at), self._believed(event.updated_at)
        if known is not None and not self._wins(event, known, (born, as_of)):
            self._learn_origin(event, known)
            return
        if not self._is_kept(event, as_of):
            return
        image = image_id(event.uri)
        data = event.data
        if known is not None and known["created_at"] == format_time(event.created_at):
            data = _with_origin(data, json.loads(known["data"]))
        if data.get("ground_truth") and event.read_after is None and is_label_studio(event.source):
            data = self._star(event, data, as_of)
        row = (
            *(event.project, event.source, event.annotation_id, event.task_id, image, event.uri),
            *(format_time(event.created_at), format_time(event.updated_at), born, as_of, self._seq),
            *(unique_id_of(data), _json(data)),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        )
        self._touch(event.project, image)
        self._touch_rows("task_images", event, event.task_id)
        if known is not None:
            self._touch_annotation(event, known)
        self._revive(event, "annotation", event.annotation_id)
        if self._revive(event, "task", event.task_id):
            self._touch_task(event, event.task_id)

    def _task_saved(self, event: TaskSaved) -> None:
        known = next(iter(self._rows("tasks", "task_id", event, event.task_id)), None)
        born, as_of = self._believed(event.created_at), self._believed(event.updated_at or event.created_at)
        image, data, images = image_id(event.uri), _json(event.data), _json(event.images)
        if known is not None and not self._wins(event, known, (born, as_of, event.uri, images)):
            return
        created, updated = format_time(event.created_at), format_time(event.updated_at or event.created_at)
        row = (
            *(event.project, event.source, event.task_id, image, event.uri),
            *(created, updated, born, as_of, self._seq, data, images),
        )
        self._connection.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        revived = self._revive(event, "task", event.task_id)
        form = (image, created, data, images)
        same = known is not None and (known["image_id"], known["created_at"], known["data"], known["images"]) == form
        if same and not revived:
            return
        self._touch_task(event, event.task_id)
        if known is None or known["images"] != images:
            self._replace_images(event)
            self._touch_rows("task_images", event, event.task_id)
        if known is not None:
            self._touch(event.project, known["image_id"])

    def _deleted(self, what: str, id: str, event: AnnotationDeleted | TaskDeleted) -> None:
        assert event.at is not None
        known = self._rows(f"{what}s", f"{what}_id", event, id)
        if event.read_after is not None and any(row["seq"] > event.read_after for row in known):
            return  # a webhook has brought it since the reading began
        owned = self._rows("annotations", "task_id", event, id) if what == "task" else []
        # What was created in the future, from when our own clock was ahead, is deleted too.
        at = max(format_time(event.at), *(row["born"] for row in known + owned if row["born"] > self._received), "")
        changed = self._connection.execute(
            "INSERT INTO deletions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (project, source, what, id)"
            " DO UPDATE SET at = excluded.at, seq = excluded.seq WHERE excluded.at > at",
            (event.project, event.source, what, id, at, self._seq),
        ).rowcount
        if not changed:
            return
        if what == "task":
            self._touch_task(event, id)
        for row in known if what == "annotation" else []:
            self._touch_annotation(event, row)

    # --- which form of a task or an annotation counts

    def _believed(self, time: datetime) -> str:
        """Return the time, or when the event was received if the time lies in the future."""
        return min(format_time(time), self._received)

    def _wins(self, event: AnnotationSaved | TaskSaved, known: sqlite3.Row, times: tuple[str, ...]) -> bool:
        """Return whether the event replaces the row: `times` are its `born`, `as_of` and what follows in a tie."""
        if event.read_after is not None and known["seq"] <= event.read_after:
            return True
        if max(known["born"], known["as_of"]) > self._received:  # our own clock was ahead
            return True
        ties = ("born", "as_of", "uri", "images")
        return times > tuple(known[column] for column in ties[: len(times)])

    def _revive(self, event: AnnotationSaved | TaskSaved, what: str, id: str) -> bool:
        """Forget a deletion that was recorded before the event was read from its source; return whether there was."""
        if event.read_after is None:
            return False
        deleted = self._connection.execute(
            "DELETE FROM deletions WHERE project = ? AND source = ? AND what = ? AND id = ? AND seq <= ?",
            (event.project, event.source, what, id, event.read_after),
        )
        return deleted.rowcount > 0

    def _star(self, event: AnnotationSaved, data: Mapping[str, Any], as_of: str) -> Mapping[str, Any]:
        """Return the data of a ground truth annotation, after the others of its task have lost their stars.

        Label Studio takes the other stars away without a webhook. One that another annotation got later stays, and the
        data is returned without a star.
        """
        others = [
            row
            for row in self._rows("annotations", "task_id", event, event.task_id)
            if row["annotation_id"] != event.annotation_id and json.loads(row["data"]).get("ground_truth")
        ]
        if any(row["as_of"] > as_of for row in others):
            return {**data, "ground_truth": False}
        for row in others:
            self._set_data(event, row, {**json.loads(row["data"]), "ground_truth": False})
        return data

    def _is_kept(self, event: AnnotationSaved, as_of: str) -> bool:
        """Return whether the annotation is kept under this source.

        An export holds the annotations of a Label Studio under another source. Each counts once: that of Label Studio
        itself, else the newest, else that of the newer form of its task, since a corrected address leaves the times of
        annotations as they are; else the one that came last. The others leave the state, see `twins`.
        """
        others = twins(self._connection, event)
        if not others:
            return True
        ours = self._rank(event, event.source, event.task_id, as_of)
        if any(self._rank(event, row["source"], row["task_id"], row["as_of"]) > ours for row in others):
            return False
        for other in others:
            self._connection.execute(
                "DELETE FROM annotations WHERE project = ? AND source = ? AND annotation_id = ?",
                (event.project, other["source"], other["annotation_id"]),
            )
            self._touch_annotation(event, other)
        return True

    def _rank(self, event: Event, source: str, task_id: str, as_of: str) -> tuple[bool, str, str]:
        task = next(iter(self._rows("tasks", "task_id", event, task_id, source)), None)
        return is_label_studio(source), as_of, task["as_of"] if task is not None else ""

    def _learn_origin(self, event: AnnotationSaved, known: sqlite3.Row) -> None:
        """Add to the known form what an older form says about the origin of the annotation and it does not."""
        data = json.loads(known["data"])
        whole = _with_origin(data, event.data)
        if whole != data and known["created_at"] == format_time(event.created_at):
            self._set_data(event, known, whole)

    # --- rows

    def _rows(self, table: str, key: str, event: Event, id: str, source: str | None = None) -> list[sqlite3.Row]:
        query = f"SELECT * FROM {table} WHERE project = ? AND source = ? AND {key} = ?"  # noqa: S608
        values = (event.project, event.source if source is None else source, id)
        return self._connection.execute(query, values).fetchall()

    def _set_data(self, event: Event, row: sqlite3.Row, data: Mapping[str, Any]) -> None:
        self._connection.execute(
            "UPDATE annotations SET data = ? WHERE project = ? AND source = ? AND annotation_id = ?",
            (_json(data), event.project, event.source, row["annotation_id"]),
        )
        self._touch_annotation(event, row)

    def _replace_images(self, event: TaskSaved) -> None:
        key = (event.project, event.source, event.task_id)
        self._connection.execute("DELETE FROM task_images WHERE project = ? AND source = ? AND task_id = ?", key)
        self._connection.executemany(
            "INSERT INTO task_images VALUES (?, ?, ?, ?, ?, ?)",
            [(*key, name, image_id(uri), uri) for name, uri in event.images.items()],
        )

    # --- images whose label is to be decided again

    def _touch(self, project: str, image: str) -> None:
        self.touched.add((project, image))
        self._connection.execute(
            "INSERT INTO dirty VALUES (?, ?, ?) ON CONFLICT (project, image_id) DO UPDATE SET seq = excluded.seq",
            (project, image, self._seq),
        )

    def _touch_rows(self, table: str, event: Event, task_id: str, source: str | None = None) -> None:
        """Touch the images in the rows of a task."""
        for row in self._rows(table, "task_id", event, task_id, source):
            self._touch(event.project, row["image_id"])

    def _touch_task(self, event: Event, task_id: str) -> None:
        """Touch the images of a task and of its annotations."""
        for table in ("tasks", "annotations", "task_images"):
            self._touch_rows(table, event, task_id)

    def _touch_annotation(self, event: Event, row: sqlite3.Row) -> None:
        """Touch the images of an annotation."""
        self._touch(event.project, row["image_id"])
        self._touch_rows("task_images", event, row["task_id"], row["source"])


def _with_origin(data: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data with the annotator, the prediction and the unique id of another form where it has none.

    Label Studio forgets the first two when the account or the prediction is deleted, and its API does not give the
    third. An annotation has them from its first form on, so nothing is added that was never true.
    """
    kept = {name: known[name] for name in _ORIGIN if data.get(name) is None and known.get(name) is not None}
    return {**data, **kept} if kept else data


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)
