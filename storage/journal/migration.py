"""Changes to a journal that are done once: to the tables of a newer release, and from no source to a source."""

import json
import sqlite3
from collections.abc import Collection
from datetime import UTC, datetime

from taxonomist.storage.journal.codec import format_time
from taxonomist.storage.journal.events import EARLIER_IMPORT, UNKNOWN_SOURCE
from taxonomist.storage.journal.schema import STATE

__all__ = ["adopt", "migrate"]

_NEW_COLUMNS = {
    "annotations": "project, '', annotation_id, task_id, image_id, uri, created_at, updated_at,"
    " min(created_at, :now), min(updated_at, :now), 0, json_extract(data, '$.unique_id'), data",
    "tasks": "project, '', task_id, image_id, uri, created_at, updated_at, min(created_at, :now),"
    " min(updated_at, :now), 0, data, '{}'",
    "deletions": "project, '', what, id, at, 0",
}
_KEYS = {
    "annotations": ("annotation_id",),
    "tasks": ("task_id",),
    "task_images": ("task_id",),  # those of a task together
    "deletions": ("what", "id"),
}

_NO_MANIFEST = {"annotations": " AND task_id <> uri", "tasks": " AND task_id <> uri"}
_TASKS = "(SELECT value FROM json_each(:tasks))"
_ANNOTATIONS = "(SELECT value FROM json_each(:annotations))"
_CHOSEN = {
    "annotations": f" AND (task_id IN {_TASKS} OR annotation_id IN {_ANNOTATIONS})",
    "tasks": f" AND task_id IN {_TASKS}",
    "task_images": f" AND task_id IN {_TASKS}",
    "deletions": f" AND ((what = 'task' AND id IN {_TASKS}) OR (what = 'annotation' AND id IN {_ANNOTATIONS}))",
}


def migrate(connection: sqlite3.Connection) -> None:
    """Change the tables of version 1, which have no source, to those of version 2, in the caller's transaction.

    Everything gets the source `UNKNOWN_SOURCE`; `adopt` gives it the true one when that is known. `seq` is 0: whatever
    is read from a source from now on is newer. Does nothing when the tables are those of version 2.
    """
    if connection.execute("PRAGMA user_version").fetchone()[0] >= 2:
        return
    for view in ("dirty_images", "live_annotations", "live_tasks"):
        connection.execute(f"DROP VIEW IF EXISTS {view}")
    for index in ("annotations_image", "annotations_task", "tasks_image"):
        connection.execute(f"DROP INDEX IF EXISTS {index}")
    for table in _NEW_COLUMNS:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in STATE.split(";\n"):
        connection.execute(statement)
    now = {"now": format_time(datetime.now(UTC))}
    for table, columns in _NEW_COLUMNS.items():
        connection.execute(f"INSERT INTO {table} SELECT {columns} FROM old_{table}", now)  # noqa: S608
        connection.execute(f"DROP TABLE old_{table}")
    connection.execute("ALTER TABLE projects DROP COLUMN clock")
    connection.execute("PRAGMA user_version = 2")


def adopt(
    connection: sqlite3.Connection,
    project: str,
    source: str,
    former: str = UNKNOWN_SOURCE,
    chosen: tuple[Collection[str], Collection[str]] | None = None,
) -> int:
    """Give the project's rows of the former source this source; return how many tasks and annotations.

    `chosen` limits it to these tasks with their annotations, and to these further annotations. A row that the source
    has already stays, and the other one is dropped. Events that are not folded get it too. Of an earlier import, the
    rows of a manifest stay, where a task has the address of its image as its id: its next import finds them.
    """
    tasks, annotations = (json.dumps(list(ids)) for ids in chosen or ((), ()))
    values = {"project": project, "former": former, "source": source, "tasks": tasks, "annotations": annotations}
    adopted = 0
    for table, keys in _KEYS.items():
        limits = _NO_MANIFEST.get(table, "") if former == EARLIER_IMPORT else ""
        limits += _CHOSEN[table] if chosen is not None else ""
        same = " AND ".join(f"known.{key} = {table}.{key}" for key in keys)
        twice = (  # what the source has already
            f"FROM {table} WHERE project = :project AND source = :former AND EXISTS ("  # noqa: S608
            f"SELECT 1 FROM {table} known WHERE known.project = {table}.project AND known.source = :source AND {same})"
            f"{limits}"
        )
        if table != "deletions":
            connection.execute(
                f"INSERT OR IGNORE INTO dirty SELECT project, image_id, (SELECT seq FROM folded) {twice}",  # noqa: S608
                values,
            )
        connection.execute(f"DELETE {twice}", values)
        changed = connection.execute(
            f"UPDATE {table} SET source = :source WHERE project = :project AND source = :former{limits}",  # noqa: S608
            values,
        ).rowcount
        adopted += changed if table in {"annotations", "tasks"} else 0
    if chosen is None:
        connection.execute(
            "UPDATE events SET body = json_set(body, '$.source', :source) WHERE project = :project"
            " AND seq > (SELECT seq FROM folded) AND :former ="
            " CASE WHEN json_valid(body) THEN coalesce(json_extract(body, '$.source'), :unknown) END",
            {**values, "unknown": UNKNOWN_SOURCE},
        )
    return adopted
