"""What people have changed: who, when, what, and how it was before. Rows are only added."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.names import shorten

FILE = "audit.sqlite"
MAX_CHARACTERS = 2000  # of a text
_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, project TEXT,
    action TEXT NOT NULL, what TEXT NOT NULL, before TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS audit_project ON audit (project, number);
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'rows are only added'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'rows are only added'); END"""


@dataclass(frozen=True)
class AuditEntry:
    """A change. `who` is an e-mail address, or another name of the caller; `what` is in words.

    `before` is how it was, None where that is nothing; `project` is None for a change that concerns no project alone.
    """

    number: int
    at: datetime
    who: str
    project: str | None
    action: str
    what: str
    before: str | None


class AuditLog:
    """The log in a home folder. Every method raises `StorageError` when its file cannot be read or written."""

    def __init__(self, home: Path) -> None:
        self._database = Database(home / FILE, _SCHEMA)

    def add(
        self, who: str, action: str, *, project: str | None = None, what: str = "", before: str | None = None
    ) -> None:
        """Add a change that `who` makes now. `action` is a short name, such as `promote`. Long texts are shortened."""
        kept = [text and shorten(text, MAX_CHARACTERS) for text in (who, project, action, what, before)]
        with self._database.write() as db:
            db.execute(
                "INSERT INTO audit (at, who, project, action, what, before) VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), *kept),
            )

    def entries(self, project: str | None = None, *, limit: int = 100, below: int | None = None) -> list[AuditEntry]:
        """Return the newest changes, of one project or of all, newest first; `below` a number, for a further page."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT * FROM audit WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR number < ?2)"
                " ORDER BY number DESC LIMIT ?3",
                (project, below, limit),
            ).fetchall()
        return [AuditEntry(**{**dict(row), "at": datetime.fromtimestamp(row["at"], UTC)}) for row in rows]
