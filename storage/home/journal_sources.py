"""The step of a migration that gives the tasks and annotations of the journal their source.

Releases before it stored no source. What a connected project has came from its Label Studio; what was only imported
is an `EARLIER_IMPORT`, which the next import gives its name.
"""

from __future__ import annotations

import json
import logging

from taxonomist.storage.home.old_home import OldHome
from taxonomist.storage.journal.events import EARLIER_IMPORT
from taxonomist.storage.journal.migration import adopt, migrate

__all__ = ["give_sources"]

log = logging.getLogger(__name__)


def give_sources(home: OldHome) -> None:
    """Change the tables of the journal to those with a source. Raises `StorageError`."""
    with home.transaction("journal.sqlite") as connection:
        if connection is None:
            return
        migrate(connection)
        created = _created(home)
        rows = connection.execute("SELECT project FROM events UNION SELECT project FROM projects").fetchall()
        for project in sorted(row["project"] for row in rows):
            source = f"{project}.{created[project]}" if project in created else EARLIER_IMPORT
            adopted = adopt(connection, project, source)
            log.info("project %s: %d tasks and annotations belong to %s", project, adopted, source)


def _created(home: OldHome) -> dict[str, str]:
    """Return when each project was created in its Label Studio, as far as its record can be read and says it."""
    created = {}
    for path in sorted((home.path / "projects").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            log.error("%s cannot be read: %s", path, error)
            continue
        if isinstance(record, dict) and isinstance(record.get("project"), str) and record.get("created"):
            created[record["project"]] = str(record["created"])
    return created
