"""Announcements of a version do not overlap."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.announce import announce_version
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from tests.label_studio_stand_in import StandIn


def test_two_processes_announce_at_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect` and the worker: the second announcement begins when the first has ended."""
    versions = {"MainThread": "taxonomist-v1", "worker": "taxonomist-v2"}
    monkeypatch.setattr(Predictor, "model_version", lambda *_: versions[threading.current_thread().name])
    worker = threading.Thread(target=announce_version, args=(services, "4"), name="worker")

    def start_the_worker(method: str, path: str) -> None:
        if (method, path) == ("PATCH", "/api/projects/4") and worker.ident is None:
            worker.start()
            worker.join(0.5)

    with StandIn() as label_studio:
        row = {"id": 8, "project": 4, "url": services.settings.url, "title": "taxonomist-v0"}
        label_studio.ml_backends[8] = row
        services.projects.update("4", label_studio_url=label_studio.url, api_key=SecretStr("t"), ml_backend=8)
        label_studio.refuse = start_the_worker
        announce_version(services, "4")
        worker.join()
        assert (row["title"], label_studio.model_version) == ("taxonomist-v2", "taxonomist-v2")
