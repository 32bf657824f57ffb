"""A project that is served by a poor backbone, and a better one that waits to be adopted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.registry import ModelVersion
from tests.small_world import CONFIG, publish_backbone, publish_poor_backbone, write_catalogue


@pytest.fixture(scope="session")
def poor_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Project "7" with 80 labelled pictures and a champion on a poor backbone, made once."""
    folder = tmp_path_factory.mktemp("poor")
    services = Services(Settings(home=folder / "home", head_epochs=10, views=1))
    publish_poor_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(folder / "catalogue", 80), "7")
    train(services, "7", lambda step, share: None)
    return services.settings.home


@pytest.fixture
def poor(poor_home: Path, tmp_path: Path) -> Services:
    """It, on a home folder of the test's own."""
    shutil.copytree(poor_home, tmp_path / "home")
    return Services(Settings(home=tmp_path / "home", head_epochs=10, views=1))


@pytest.fixture
def better(poor: Services) -> ModelVersion:
    """Backbone v2, a candidate."""
    return publish_backbone(poor, promote=False)
