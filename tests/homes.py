"""Fixtures for tests of the backend and of several packages: a backend on a fresh home folder, without network and
without worker."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app
from tests.small_world import CONFIG, publish_backbone, write_catalogue

DATA = Path(__file__).parent / "data"


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the environment variables and the settings file of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith("TAXONOMIST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", blind_share=0)


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


@pytest.fixture
def client(services: Services) -> Iterator[FlaskClient]:
    with create_app(services.settings, services).test_client() as client:
        yield client


@pytest.fixture(scope="session")
def captures() -> list[dict[str, Any]]:
    """Every request that Label Studio 1.23.2 sent to a backend in recorded sessions."""
    requests: list[dict[str, Any]] = json.loads((DATA / "captures.json").read_text(encoding="utf-8"))
    return requests


@pytest.fixture
def world(services: Services, tmp_path: Path) -> Services:
    """Project "7": 80 coloured images with labels, a small backbone, no model yet."""
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path / "catalogue", 80), "7")
    return services


def make_trained_home(folder: Path) -> Services:
    """Make a home in the folder whose project "7" has 80 coloured images with labels, and a champion."""
    services = Services(Settings(home=folder / "home", blind_share=0))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(folder / "catalogue", 80), "7")
    train(services, "7", lambda step, share: None)
    return services


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a champion, made once and copied for each test that uses it."""
    services = make_trained_home(tmp_path_factory.mktemp("trained"))
    return services.settings.home


@pytest.fixture
def trained(trained_home: Path, settings: Settings) -> Services:
    """Project "7" with a champion, on a home folder of the test's own."""
    shutil.copytree(trained_home, settings.home)
    return Services(settings)
