"""A project to import exports into, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.services import Services
from tests.small_world import CONFIG


@pytest.fixture
def known(services: Services) -> Services:
    """A home with an empty project "7"."""
    services.projects.update("7", label_config=CONFIG)
    return services


def labels(services: Services) -> dict[str, Any]:
    """Return the accepted path of each image of the project by its address, None without one."""
    found = {}
    for document in services.catalog.documents("7"):
        own = document.projects["7"]
        found[own.uri] = own.accepted["colour"][0] if own.accepted else None
    return found


def everything(services: Services) -> tuple[Any, ...]:
    """Return what the journal and the catalogue have of the project."""
    services.journal.fold()
    documents = [(found.id, found.projects["7"].accepted) for found in services.catalog.documents("7")]
    return list(services.journal.tasks("7")), list(services.journal.annotations("7")), documents
