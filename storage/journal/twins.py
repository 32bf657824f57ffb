"""The same annotation in several sources: an export holds the annotations of a Label Studio under a name of its own.

Each counts once, see `fold`: that of Label Studio itself, else the newest.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from taxonomist.storage.journal.codec import format_time
from taxonomist.storage.journal.events import AnnotationSaved

__all__ = ["live_form", "lives", "twins", "unique_id_of"]


def twins(connection: sqlite3.Connection, event: AnnotationSaved) -> list[sqlite3.Row]:
    """Return the rows of the same annotation in other sources, deleted or not.

    The same annotation has the same `unique_id`, or the same id and time of creation to the microsecond: Label Studio's
    API does not give the `unique_id`.
    """
    unique_id, created = unique_id_of(event.data), format_time(event.created_at)
    is_exact = event.created_at.microsecond != 0
    rows = connection.execute(
        "SELECT source, annotation_id, task_id, as_of, image_id, unique_id, created_at FROM annotations"
        " WHERE project = ? AND unique_id = ? AND source <> ? UNION"
        " SELECT source, annotation_id, task_id, as_of, image_id, unique_id, created_at FROM annotations"
        " WHERE project = ? AND annotation_id = ? AND source <> ?",
        (event.project, unique_id, event.source, event.project, event.annotation_id, event.source),
    ).fetchall()
    return [
        row
        for row in rows
        if (unique_id is not None and row["unique_id"] == unique_id)
        or (is_exact and row["created_at"] == created and None in {unique_id, row["unique_id"]})
    ]


def live_form(connection: sqlite3.Connection, event: AnnotationSaved) -> tuple[sqlite3.Row | None, bool]:
    """Return the live row that counts for an annotation, its own or that of another source, and whether it was deleted.

    Without a row the annotation was deleted, or no event of it could be folded.
    """
    ids = [(event.source, event.annotation_id)]
    ids += [(twin["source"], twin["annotation_id"]) for twin in twins(connection, event)]
    for source, annotation_id in ids:
        row = _live(connection, event.project, source, annotation_id)
        if row is not None:
            return row, False
    own = connection.execute(
        "SELECT 1 FROM annotations WHERE project = ? AND source = ? AND annotation_id = ?", (event.project, *ids[0])
    ).fetchone()
    return None, own is not None or len(ids) > 1


def lives(connection: sqlite3.Connection, event: AnnotationSaved) -> bool:
    """Return whether the annotation lives under its own source, in any form."""
    return _live(connection, event.project, event.source, event.annotation_id) is not None


def unique_id_of(data: Mapping[str, Any]) -> str | None:
    """Return the `unique_id` of an annotation's JSON."""
    unique_id = data.get("unique_id")
    return unique_id if isinstance(unique_id, str) and unique_id else None


def _live(connection: sqlite3.Connection, project: str, source: str, annotation_id: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM live_annotations WHERE project = ? AND source = ? AND annotation_id = ?",
        (project, source, annotation_id),
    ).fetchone()
    return row
