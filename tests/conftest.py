"""Shared by all tests: how they are spread over the processes, and Azure's services on loopback, started
when the first test asks for them."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import emulators
from taxonomist.storage.network.host_breaker import HOSTS

ROOT = Path(__file__).parents[1]
_ended = itertools.count(1)  # tests of this process
pytest_plugins = ["tests.homes", "tests.network"]


class Units(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands the tests to the processes in units: all with a real Label Studio, a file whose tests share a fixture of
    their module, or else a single test. So a server, a training or an installation is made once.

    Larger units come first, then slow tests; the fast ones fill what is left, and all processes end together.
    xdist's own groups do nothing under pytest 9.2, which keeps no `_nodeid` that xdist 3.8 could mark.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/e2e/"):
            return "label-studio"
        return file if _shares_a_fixture(file) else nodeid


@cache
def _shares_a_fixture(file: str) -> bool:
    return 'scope="module"' in (ROOT / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Units(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process alone goes in the order of the files
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _no_host_failed_before() -> None:
    HOSTS.clear()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Close the stores that tests left open, now and then: Python collects a large heap rarely, and a process may have
    1,024 open files."""
    if next(_ended) % 100 == 0:
        gc.collect()


@pytest.fixture(scope="session")
def azurite() -> Iterator[emulators.Blob]:
    with emulators.blob() as running:
        yield running


@pytest.fixture(scope="session")
def cosmos_server() -> Iterator[emulators.Cosmos]:
    with emulators.cosmos() as running:
        yield running
