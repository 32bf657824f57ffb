"""The log of what people changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxonomist.backend.web.people import AuditLog
from taxonomist.backend.web.people.audit_log import FILE


def test_entries_come_newest_first_and_by_pages(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.add("lea@example.com", "promote", project="4", what="v3", before="v2")
    log.add("anna@example.com", "settings", what="leads")
    log.add("lea@example.com", "forget", project="4", what="x" * 5000)
    newest, settings, promote = AuditLog(tmp_path).entries()
    assert (promote.who, promote.action, promote.project, promote.what, promote.before) == (
        *("lea@example.com", "promote", "4", "v3"),
        "v2",
    )
    assert (settings.project, settings.before) == (None, None)
    assert len(newest.what) < 2100
    assert 0 <= (datetime.now(UTC) - newest.at).total_seconds() < 60
    assert log.entries("4") == [newest, promote]
    assert log.entries(limit=1) == [newest]
    assert log.entries(below=newest.number, limit=1) == [settings]


@pytest.mark.parametrize("change", ["UPDATE audit SET who = 'x'", "DELETE FROM audit"])
def test_rows_are_only_added(tmp_path: Path, change: str) -> None:
    log = AuditLog(tmp_path)
    log.add("lea@example.com", "promote", project="4")
    with closing(sqlite3.connect(tmp_path / FILE)) as database, pytest.raises(sqlite3.Error, match="only added"):
        database.execute(change)
    assert len(log.entries()) == 1
