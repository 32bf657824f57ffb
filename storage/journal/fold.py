"""Folds events into the state, see `schema`. For webhooks each step is a maximum, so that order and repetition of
events do not matter; what was read from the source replaces what has not changed since."""

import json
import re
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal.codec import decode, format_time
from taxonomist.storage.journal.events import (
    UNKNOWN_SOURCE,
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.storage.journal.state import Folded

__all__ = ["fold_slice", "is_label_studio"]

_ORIGIN = ("completed_by", "parent_prediction")
_LABEL_STUDIO = re.compile(r"\d+\.\d+")


def is_label_studio(source: str) -> bool:
    """Return whether a source is a Label Studio project (`4.1795531934`, or one that is not known yet)."""
    return source == UNKNOWN_SOURCE or bool(_LABEL_STUDIO.fullmatch(source))


def fold_slice(connection: sqlite3.Connection, limit: int) -> Folded:
    """Fold at most `limit` events in the caller's write transaction, and return what changed."""
    (start,) = connection.execute("SELECT seq FROM folded").fetchone()
    rows = connection.execute(
        "SELECT seq, kind, received_at, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (start, limit)
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

    def _annotation_saved(self, event: AnnotationSaved) -> None:
        known = self._row("annotations", "annotation_id", event, event.annotation_id)
        born, as_of = self._believed(event.created_at), self._believed(event.updated_at)
        if known is not None and not self._wins(event, known, (born, as_of)):
            self._learn_origin(event, known)
            return
        if not self._keeps_unique_id(event, as_of):
            return
        image = image_id(event.uri)
        data = event.data
        if known is not None and known["created_at"] == format_time(event.created_at):
            data = _with_origin(data, json.loads(known["data"]))
        row = (
            *(event.project, event.source, event.annotation_id, event.task_id, image, event.uri),
            *(format_time(event.created_at), format_time(event.updated_at), born, as_of, self._seq),
            *(_unique_id(event), _json(data)),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        )
        self._revive(event, ("annotation", event.annotation_id), ("task", event.task_id))
        self._touch(event.project, image)
        self._touch_images(event, event.task_id)
        if known is not None:
            self._touch_annotation(event, known)

    def _task_saved(self, event: TaskSaved) -> None:
        known = self._row("tasks", "task_id", event, event.task_id)
        born, as_of = self._believed(event.created_at), self._believed(event.updated_at or event.created_at)
        image, data, images = image_id(event.uri), _json(event.data), _json(event.images)
        if known is not None and not self._wins(event, known, (born, as_of, event.uri, images)):
            return
        created, updated = format_time(event.created_at), format_time(event.updated_at or event.created_at)
        self._connection.execute(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(event.project, event.source, event.task_id, image, event.uri),
                *(created, updated, born, as_of, self._seq, data, images),
            ),
        )
        revived = self._revive(event, ("task", event.task_id))
        form = (image, created, data, images)
        same = known is not None and (known["image_id"], known["created_at"], known["data"], known["images"]) == form
        if same and not revived:
            return
        if known is None or known["images"] != images:
            self._touch_images(event, event.task_id)
            self._replace_images(event)
        self._touch(event.project, image)
        self._touch_task(event)
        if known is not None and known["image_id"] != image:
            self._touch(event.project, known["image_id"])

    def _deleted(self, what: str, id: str, event: AnnotationDeleted | TaskDeleted) -> None:
        assert event.at is not None
        known = self._row(f"{what}s", f"{what}_id", event, id)
        if known is not None and event.read_after is not None and known["seq"] > event.read_after:
            return  # a webhook has brought it back since the reading began
        at = max(format_time(event.at), *self._future_births(what, id, event))
        changed = self._connection.execute(
            "INSERT INTO deletions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (project, source, what, id)"
            " DO UPDATE SET at = excluded.at, seq = excluded.seq WHERE excluded.at > at",
            (event.project, event.source, what, id, at, self._seq),
        ).rowcount
        if not changed:
            return
        if isinstance(event, TaskDeleted):
            self._touch_task(event)
        elif known is not None:
            self._touch_annotation(event, known)

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

    def _future_births(self, what: str, id: str, event: AnnotationDeleted | TaskDeleted) -> list[str]:
        """Return the latest time of creation after now, from when our own clock was ahead; it is to be deleted too."""
        where = "WHERE project = ? AND source = ? AND {} = ? AND born > ?"
        values = (event.project, event.source, id, self._received)
        queries = [f"SELECT max(born) FROM annotations {where.format(what + '_id')}"]  # noqa: S608
        if what == "task":
            queries.append(f"SELECT max(born) FROM tasks {where.format('task_id')}")  # noqa: S608
        found = (self._connection.execute(query, values).fetchone()[0] for query in queries)
        return ["", *(born for born in found if born is not None)]

    def _revive(self, event: AnnotationSaved | TaskSaved, *deleted: tuple[str, str]) -> bool:
        """Forget deletions that were recorded before the event was read from its source; return whether there were."""
        if event.read_after is None:
            return False
        return (
            sum(
                self._connection.execute(
                    "DELETE FROM deletions WHERE project = ? AND source = ? AND what = ? AND id = ? AND seq <= ?",
                    (event.project, event.source, what, id, event.read_after),
                ).rowcount
                for what, id in deleted
            )
            > 0
        )

    def _keeps_unique_id(self, event: AnnotationSaved, as_of: str) -> bool:
        """Return whether the annotation is kept under this source.

        An export holds the annotations of a Label Studio under another source. Each counts once: that of Label Studio
        itself, else the newest. The others leave the state.
        """
        unique_id = _unique_id(event)
        if unique_id is None:
            return True
        others = self._connection.execute(
            "SELECT source, annotation_id, task_id, as_of, image_id FROM annotations"
            " WHERE project = ? AND unique_id = ? AND source <> ?",
            (event.project, unique_id, event.source),
        ).fetchall()
        if any(_rank(other["source"], other["as_of"]) > _rank(event.source, as_of) for other in others):
            return False
        for other in others:
            self._connection.execute(
                "DELETE FROM annotations WHERE project = ? AND source = ? AND annotation_id = ?",
                (event.project, other["source"], other["annotation_id"]),
            )
            self._touch_annotation(event, other)
        return True

    def _learn_origin(self, event: AnnotationSaved, known: sqlite3.Row) -> None:
        """Add to the known form what an older form says about the origin of the annotation and it does not."""
        if known["created_at"] != format_time(event.created_at):
            return
        data = json.loads(known["data"])
        whole = _with_origin(data, event.data)
        if whole == data:
            return
        self._connection.execute(
            "UPDATE annotations SET data = ? WHERE project = ? AND source = ? AND annotation_id = ?",
            (_json(whole), event.project, event.source, event.annotation_id),
        )
        self._touch_annotation(event, known)

    # --- rows

    def _row(self, table: str, key: str, event: Event, id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._connection.execute(
            f"SELECT * FROM {table} WHERE project = ? AND source = ? AND {key} = ?",  # noqa: S608
            (event.project, event.source, id),
        ).fetchone()
        return row

    def _touch(self, project: str, image: str) -> None:
        self._touched.add((project, image))
        self._connection.execute(
            "INSERT INTO dirty VALUES (?, ?, ?) ON CONFLICT (project, image_id) DO UPDATE SET seq = excluded.seq",
            (project, image, self._seq),
        )

    def _touch_annotation(self, event: Event, row: sqlite3.Row) -> None:
        """Touch the images of an annotation."""
        self._touch(event.project, row["image_id"])
        self._touch_images(event, row["task_id"], row["source"])

    def _touch_images(self, event: Event, task_id: str, source: str | None = None) -> None:
        """Touch the images of a task that has several."""
        key = (event.project, event.source if source is None else source, task_id)
        for row in self._connection.execute(
            "SELECT image_id FROM task_images WHERE project = ? AND source = ? AND task_id = ?", key
        ).fetchall():
            self._touch(event.project, row["image_id"])

    def _replace_images(self, event: TaskSaved) -> None:
        key = (event.project, event.source, event.task_id)
        self._connection.execute("DELETE FROM task_images WHERE project = ? AND source = ? AND task_id = ?", key)
        self._connection.executemany(
            "INSERT INTO task_images VALUES (?, ?, ?, ?, ?, ?)",
            [(*key, name, image_id(uri), uri) for name, uri in event.images.items()],
        )

    def _touch_task(self, event: TaskSaved | TaskDeleted) -> None:
        for table in ("tasks", "annotations", "task_images"):
            for row in self._connection.execute(
                f"SELECT image_id FROM {table} WHERE project = ? AND source = ? AND task_id = ?",  # noqa: S608
                (event.project, event.source, event.task_id),
            ).fetchall():
                self._touch(event.project, row["image_id"])


def _unique_id(event: AnnotationSaved) -> str | None:
    unique_id = event.data.get("unique_id")
    return unique_id if isinstance(unique_id, str) and unique_id else None


def _rank(source: str, as_of: str) -> tuple[bool, str, list[int]]:
    # The name decides between two exports of the same moment: the first in the alphabet.
    return is_label_studio(source), as_of, [-ord(letter) for letter in source]


def _with_origin(data: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data with the annotator and the prediction of another form of the annotation where it has none.

    Label Studio forgets them when the account or the prediction is deleted. An annotation that a person makes has both
    from its first form on, so nothing is added that was never true.
    """
    kept = {name: known[name] for name in _ORIGIN if data.get(name) is None and known.get(name) is not None}
    return {**data, **kept} if kept else data


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)
