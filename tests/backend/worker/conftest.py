"""Commands in this process, and a server with its worker for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.backend.cli.conftest import run
from tests.backend.worker.two_projects import Backend
from tests.backend_process import BackendProcess
from tests.small_world import publish_backbone

__all__ = ["run"]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    publish_backbone(Services(Settings(home=home)))
    with BackendProcess(home, {"min_annotators": 1, "retrain_every": 100_000, "retrain_after": 100_000}) as process:
        backend = Backend(process, Services(Settings(home=home)))
        assert backend.learns()
        yield backend
