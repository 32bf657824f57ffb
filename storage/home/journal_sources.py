"""The step of a migration that gives the tasks and annotations of the journal their source.

Releases before it stored no source. What a connected project has came from its Label Studio; what was only imported
is an `EARLIER_IMPORT`, which the next import gives its name.
"""

from __future__ import annotations

import json
import logging
import sqlite3

from taxonomist.storage.home.old_home import OldHome
from taxonomist.storage.journal.events import EARLIER_IMPORT, UNKNOWN_SOURCE
from taxonomist.storage.journal.migration import adopt, migrate
from taxonomist.taxonomy.errors import DamagedError

__all__ = ["give_sources"]

log = logging.getLogger(__name__)


def give_sources(home: OldHome) -> None:
    """Change the tables of the journal to those with a source. Raises `StorageError` and `DamagedError`."""
    with home.transaction("journal.sqlite") as connection:
        if connection is None:
            return
        migrate(connection)
        created = _created(home)
        rows = connection.execute("SELECT project FROM events UNION SELECT project FROM projects").fetchall()
        for project in sorted(row["project"] for row in rows):
            source = f"{project}.{created[project]}" if project in created else EARLIER_IMPORT
            _keep_manifest(connection, project)
            adopted = adopt(connection, project, source)
            log.info("project %s: %d tasks and annotations belong to %s", project, adopted, source)


def _keep_manifest(connection: sqlite3.Connection, project: str) -> None:
    """Leave to an earlier import what a manifest has said, also in a connected project.

    There a task has the address of its image as its id. As Label Studio's, it would be deleted by the next pass.
    """
    deleted = "what = 'task' AND id IN (SELECT task_id FROM tasks WHERE project = ? AND task_id = uri)"
    values = (EARLIER_IMPORT, project, UNKNOWN_SOURCE)
    connection.execute(
        f"UPDATE deletions SET source = ? WHERE project = ? AND source = ? AND {deleted}",  # noqa: S608
        (*values, project),
    )
    for table in ("annotations", "tasks"):
        connection.execute(
            f"UPDATE {table} SET source = ? WHERE project = ? AND source = ? AND task_id = uri",  # noqa: S608
            values,
        )


def _created(home: OldHome) -> dict[str, str]:
    """Return when each project was created in its Label Studio, where its record says it.

    Raises `DamagedError` for a record that cannot be read: without it, labels would get the wrong source for good.
    """
    created = {}
    for path in sorted((home.path / "projects").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedError(
                f"The record {path} of a project cannot be read: {error}.", hint="Restore it from a copy of the home."
            ) from error
        if isinstance(record, dict) and isinstance(record.get("project"), str) and record.get("created"):
            created[record["project"]] = str(record["created"])
    return created
