"""What is set aside is shown to people and programs, and is tried again: by a command, or when the server starts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.journal import TaskSaved
from taxonomist.storage.journal.codec import encode
from tests.backend_process import BackendProcess
from tests.small_world import CONFIG, publish_backbone
from tests.waiting import eventually

ROW = encode(TaskSaved("4", "4.1", "1", "/data/upload/4/a.jpg", datetime(2026, 11, 24, tzinfo=UTC)))


def execute(home: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(home / "journal.sqlite", timeout=30)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by a command", "at a start"])
def test_a_damaged_event(tmp_path: Path, how: str) -> None:
    services = Services(Settings(home=tmp_path / "home"))
    publish_backbone(services)
    services.projects.update("4", label_config=CONFIG)
    assert services.journal.pending() == 0
    with BackendProcess(services.home) as backend:
        insert = "INSERT INTO events (key, project, kind, received_at, body) VALUES (?, '4', ?, 1e9, '{')"
        execute(services.home, insert, ROW.key, ROW.kind)
        eventually("it is set aside", lambda: services.journal.set_aside.items("4"))
        metrics = httpx.get(f"{backend.url}/metrics").text
        assert 'taxonomist_set_aside{kind="event"} 1.0' in metrics
        assert "task-saved" in backend.command("status", "--project", "4").stdout
        assert '"event' in backend.command("status", "--project", "4", "--json").stdout
        execute(services.home, "UPDATE events SET body = ? WHERE key = ?", ROW.body, ROW.key)
        if how == "by a command":
            assert '"events": 1' in backend.command("retry", "--json").stdout
        else:
            backend.stop()
            backend.start()
        eventually(f"it works again\n{backend.said()}", lambda: not services.journal.set_aside.items("4"), timeout=60)
        assert [task.task_id for task in services.journal.tasks("4")] == ["1"]
