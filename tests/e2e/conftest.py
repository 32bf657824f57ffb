"""A real Label Studio with its people, a real browser, and our server as a real process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from taxonomist.backend.demo import environment, server
from taxonomist.backend.demo.accounts import Account, sign_up
from taxonomist.backend.demo.project import (
    CatalogueImage,
    DemoTask,
    create_project,
    label_config,
    read_catalogue,
    upload,
)
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.label_studio import LabelStudioClient
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject, Ours
from tests.e2e.screens import FLAGS
from tests.environment import LABEL_STUDIO_CACHE, chromium, label_studio_program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """One real Label Studio for the session; tests make projects of their own in it."""
    program = label_studio_program()
    folder = tmp_path_factory.mktemp("label-studio")
    with server.start(program, folder, cache=LABEL_STUDIO_CACHE) as running:
        yield running


@pytest.fixture(scope="session")
def annotators(label_studio: LabelStudioServer) -> list[Account]:
    """Three people who came through the invite link."""
    names = ("anna", "bertil", "chidi")
    return [sign_up(label_studio.url, label_studio.owner, f"{name}@example.com", "Annotator-2468") for name in names]


@pytest.fixture
def owner(label_studio: LabelStudioServer) -> Iterator[httpx.Client]:
    """An HTTP client that acts as the administrator."""
    with label_studio.owner.client(label_studio.url) as client:
        yield client


@pytest.fixture(scope="session")
def catalogue() -> tuple[CatalogueImage, ...]:
    """The demo's pictures, in the manifest's order."""
    return read_catalogue()


@pytest.fixture
def make_project(owner: httpx.Client, catalogue: tuple[CatalogueImage, ...]) -> MakeProject:
    """Makes a project with the whole catalogue's taxonomy, overlap 3 and the pictures given: (project id, tasks)."""

    def make(title: str, pictures: tuple[CatalogueImage, ...]) -> tuple[int, tuple[DemoTask, ...]]:
        project = create_project(owner, title, label_config(picture.path for picture in catalogue))
        return project, upload(owner, project, pictures)

    return make


@pytest.fixture
def ours(tmp_path: Path, label_studio: LabelStudioServer) -> Iterator[Ours]:
    """Our server and its worker in this process."""
    running = Ours(tmp_path / "home", label_studio)
    yield running
    running.stop()


@pytest.fixture
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudioClient]:
    """Our client, with the token of the administrator."""
    with LabelStudioClient(label_studio.url, label_studio.owner.token) as client:
        yield client


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    program = chromium(environment.silent)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def make_backend(label_studio: LabelStudioServer, tmp_path: Path) -> Iterator[Callable[..., BackendProcess]]:
    """Starts `taxonomist serve` against the Label Studio; keyword arguments are settings. Ended with the test.

    Without `start` it is ready for other commands first."""
    made: list[BackendProcess] = []

    def make(home: str = "home", *, start: bool = True, **settings: object) -> BackendProcess:
        defaults = {
            "label_studio_url": label_studio.url,
            "label_studio_api_key": label_studio.owner.token,
            "backbone_weights": "starter",  # no download in tests
        }
        given = {name: str(value) for name, value in settings.items()}
        made.append(BackendProcess(tmp_path / home, defaults | given))
        return made[-1].start() if start else made[-1]

    yield make
    for process in made:
        process.stop()


@pytest.fixture
def backend(make_backend: Callable[..., BackendProcess]) -> BackendProcess:
    """Our server with default settings."""
    return make_backend()
