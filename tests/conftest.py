"""What tests of every package share: Azure's services on loopback, started when the first test asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import emulators

pytest_plugins = ["tests.homes"]


@pytest.fixture(scope="session")
def azurite() -> Iterator[emulators.Blob]:
    with emulators.blob() as running:
        yield running


@pytest.fixture(scope="session")
def cosmos_server() -> Iterator[emulators.Cosmos]:
    with emulators.cosmos() as running:
        yield running
