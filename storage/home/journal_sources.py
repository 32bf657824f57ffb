"""The step of a migration that gives the tasks and annotations of the journal their source.

Releases before it stored no source. What a connected project has came from its Label Studio; what was only imported
gets the source of the next import, see `Journal.adopt`.
"""

from __future__ import annotations

import json
import logging

from taxonomist.storage.home.old_home import OldHome
from taxonomist.storage.journal.migration import adopt, migrate

__all__ = ["give_sources"]

log = logging.getLogger(__name__)


def give_sources(home: OldHome) -> None:
    """Change the tables of the journal to those with a source. Raises `StorageError`."""
    with home.transaction("journal.sqlite") as connection:
        if connection is None:
            return
        migrate(connection)
        for project, created in _created(home).items():
            adopted = adopt(connection, project, f"{project}.{created}")
            log.info("project %s: %d tasks and annotations belong to its Label Studio", project, adopted)


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
