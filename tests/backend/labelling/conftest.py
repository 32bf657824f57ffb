"""A project that a first pass over the API of a Label Studio has read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import CONFIG

A, B, C = (f"/data/upload/4/{name}.jpg" for name in "abc")


@pytest.fixture
def label_studio() -> Iterator[StandIn]:
    """Three tasks, each labelled red by two people."""
    with StandIn() as running:
        for number, uri in enumerate((A, B, C), start=1):
            running.add_task(number, uri)
            running.annotate(10 * number, number, 3, RED)
            running.annotate(10 * number + 1, number, 5, RED)
        yield running


@pytest.fixture
def connected(services: Services, label_studio: StandIn) -> Services:
    """The project is connected and a first pass has read everything."""
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
    assert run(services) == "3 tasks, 6 annotations, 9 missed events, 0 missed deletions"
    assert labels(services) == {A: RED, B: RED, C: RED}
    return services


def run(services: Services) -> str:
    return sync(services, "4", lambda step, share: None)


def labels(services: Services) -> dict[str, list[str] | None]:
    """Return the accepted label of each image of the project, by its address."""
    found = {}
    for document in services.catalog.documents("4"):
        own = document.projects["4"]
        found[own.uri] = own.accepted["colour"][0] if own.accepted else None
    return found
