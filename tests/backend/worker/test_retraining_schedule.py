"""When Label Studio is read again."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.retraining_schedule import TrainingPlanner


def test_a_clock_that_is_put_right_delays_no_pass(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.settings.sync_every = 60
    services.projects.update("4", label_studio_url="http://127.0.0.1:1", api_key=SecretStr("token"))
    planner, began = TrainingPlanner(services), time.monotonic()
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.time", lambda: 1.9e9)
    planner.plan()
    monkeypatch.undo()
    assert services.jobs.waiting() == []
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.monotonic", lambda: began + 120)
    planner.plan()
    assert [(job.kind, job.project) for job in services.jobs.waiting()] == [(JobKind.SYNC, "4")]
