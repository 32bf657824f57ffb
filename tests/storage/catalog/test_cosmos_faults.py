"""Cosmos DB that is busy, slow or gone: operations succeed, or fail with a clear error within the configured time."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import emulators
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog import ImageDocument, LabelQuery, cosmos_items
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.taxonomy.errors import StorageError
from tests.fault_proxy import Fault, FaultProxy, Request, Rule, fault_proxy

pytestmark = pytest.mark.slow

RETRY_POLICY = RetryPolicy(total_s=5.0, attempt_s=1.0, first_pause_s=0.02, longest_pause_s=0.1)
SLACK_S = 3.0  # for a machine with other work
FAULTS = {
    "429": Fault(status=429, headers={"x-ms-retry-after-ms": "50"}),
    "503": Fault(status=503),
    "410": Fault(status=410),
    "reset": Fault(reset=True),
    "lost": Fault(lose=True),
    "cut": Fault(cut=10),
    "slow": Fault(delay=1.5),
    "late": Fault(late=1.5),
}


@pytest.fixture
def proxy(cosmos_server: emulators.Cosmos) -> Iterator[FaultProxy]:
    with fault_proxy(cosmos_server.port) as proxy:
        yield proxy


@pytest.fixture
def catalog(cosmos_access: CosmosAccess, proxy: FaultProxy) -> Iterator[CosmosCatalog]:
    """One container behind the proxy, with the documents a, b and c."""
    access = replace(cosmos_access, endpoint=f"http://127.0.0.1:{proxy.port}/", containers=("images",))
    with CosmosCatalog(access, RETRY_POLICY) as catalog:
        catalog.update_many({id: lambda document: document for id in "abc"})
        yield catalog


def is_query(request: Request) -> bool:
    return "query" in request.headers.get("content-type", "")


def is_write(request: Request) -> bool:
    return request.method == "PUT" or (request.method == "POST" and not is_query(request))


def first(count: int, fault: Fault, of: Callable[[Request], bool] = lambda request: True) -> Rule:
    """Return a rule that applies the fault to the first requests of a kind."""
    seen = 0

    def rule(request: Request) -> Fault | None:
        nonlocal seen
        if not of(request):
            return None
        seen += 1
        return fault if seen <= count else None

    return rule


def counted(document: ImageDocument) -> ImageDocument:
    return document.model_copy(update={"total_annotations": (document.total_annotations or 0) + 1})


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_waited_for(catalog: CosmosCatalog, proxy: FaultProxy, name: str) -> None:
    def after(count: int) -> None:
        proxy.use(first(count, FAULTS[name]))

    after(2)
    assert catalog.get("a") is not None
    after(2)
    assert [document.id for document in catalog.documents()] == ["a", "b", "c"]
    after(2)
    assert [found.document.id for found in catalog.find(LabelQuery(exclude=("A",)))] == ["a", "b", "c"]
    after(2)
    assert catalog.count() == 3


@pytest.mark.parametrize("name", FAULTS)
def test_a_write_is_done_once(catalog: CosmosCatalog, proxy: FaultProxy, name: str) -> None:
    for id in ("a", "new"):
        proxy.use(first(2, FAULTS[name], is_write))
        written = catalog.update(id, counted)
        assert written.total_annotations == 1
        proxy.use()
        assert catalog.get(id) == written
    proxy.use(first(2, FAULTS[name], is_write))
    put = catalog.put(written.model_copy(update={"sortout": "Keep"}), if_match=written.etag)
    proxy.use()
    assert catalog.get("new") == put
    assert catalog.count() == 4


def test_many_writes_with_lost_answers_are_done_once_each(catalog: CosmosCatalog, proxy: FaultProxy) -> None:
    ids = [f"{number:02}" for number in range(30)]
    for _ in range(2):
        proxy.use(lambda request: Fault(lose=True) if is_write(request) and request.number % 3 == 0 else None)
        assert catalog.update_many(dict.fromkeys(ids, counted)) == 30
    proxy.use()
    assert {document.total_annotations for document in catalog.get_many(ids).values()} == {2}


def test_new_documents_are_not_looked_for_one_by_one(catalog: CosmosCatalog, proxy: FaultProxy) -> None:
    proxy.use()
    assert catalog.update_many(dict.fromkeys([f"{number:03}" for number in range(100)], counted)) == 100
    assert sum(map(is_write, proxy.requests)) == 100
    assert sum(request.method == "GET" for request in proxy.requests) <= 32


def test_a_lost_answer_is_known_again_though_another_wrote_after(
    catalog: CosmosCatalog, proxy: FaultProxy, cosmos_access: CosmosAccess
) -> None:
    with CosmosCatalog(cosmos_access) as other:

        def rule(request: Request) -> Fault | None:
            if is_write(request) and request.number <= 2:
                return Fault(lose=True)
            if request.number == 3:  # our retry; another program has written in between
                other.update("a", counted)
            return None

        proxy.use(rule)
        catalog.update("a", counted)
        assert (other.get("a") or ImageDocument(id="a")).total_annotations == 2


@pytest.mark.parametrize("name", FAULTS)
def test_what_stays_ends_in_time_with_an_error(catalog: CosmosCatalog, proxy: FaultProxy, name: str) -> None:
    retry_policy = replace(RETRY_POLICY, total_s=1.5, attempt_s=0.5)
    calls: dict[str, Callable[[CosmosCatalog], object]] = {
        "read the document a": lambda catalog: catalog.get("a"),
        "list documents": lambda catalog: list(catalog.documents()),
    }
    with CosmosCatalog(catalog._connection.access, retry_policy) as hasty:
        proxy.use()
        hasty.get("a")
        proxy.use(lambda request: FAULTS[name])
        for what, call in calls.items():
            begun = time.monotonic()
            with pytest.raises(StorageError, match=rf"did not {what} within 1\.5 seconds"):
                call(hasty)
            assert time.monotonic() - begun < 1.5 + SLACK_S
        proxy.use(lambda request: FAULTS[name] if is_write(request) else None)
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"did not write the document c within 1\.5 seconds"):
            hasty.update("c", counted)
        assert time.monotonic() - begun < 1.5 + SLACK_S
    proxy.use()
    left = catalog.get("c")
    assert left is not None
    assert left.total_annotations in ((None,) if name in {"429", "503", "410", "reset"} else (None, 1))


def test_retry_after_is_honoured(catalog: CosmosCatalog, proxy: FaultProxy) -> None:
    proxy.use(first(2, Fault(status=429, headers={"x-ms-retry-after-ms": "700"})))
    begun = time.monotonic()
    catalog.get("a")
    assert time.monotonic() - begun > 1.4
    assert len(proxy.requests) == 3


def test_a_busy_service_is_not_asked_more_often_than_we_say(catalog: CosmosCatalog, proxy: FaultProxy) -> None:
    """The SDK alone would send 100 requests for one query."""
    proxy.use(lambda request: Fault(status=429, headers={"x-ms-retry-after-ms": "1000"}))
    with pytest.raises(StorageError, match="status 429"):
        list(catalog.documents())
    assert len(proxy.requests) <= 6


def test_nobody_listens(cosmos_access: CosmosAccess) -> None:
    access = replace(cosmos_access, endpoint=f"http://127.0.0.1:{emulators.free_port()}/")
    retry_policy = replace(RETRY_POLICY, total_s=1.0)
    for work in (lambda: CosmosCatalog(access, retry_policy).get("a"), lambda: install(access, retry_policy)):
        begun = time.monotonic()
        with pytest.raises(StorageError, match="open the Cosmos DB account within 1 seconds"):
            work()
        assert time.monotonic() - begun < 1.0 + SLACK_S


def test_an_account_that_swallows_connections(cosmos_access: CosmosAccess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        access = replace(cosmos_access, endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}/")
        begun = time.monotonic()
        with (
            CosmosCatalog(access, replace(RETRY_POLICY, total_s=1.5)) as catalog,
            pytest.raises(StorageError, match=r"within 1\.5 seconds"),
        ):
            catalog.get("a")
        assert time.monotonic() - begun < 1.5 + SLACK_S


def test_a_server_killed_in_mid_query_and_back_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosmos_items, "_PAGE", 5)
    with emulators.cosmos() as server:
        access = CosmosAccess(server.url, server.key, "db", ("images",))
        install(access)
        with CosmosCatalog(access, replace(RETRY_POLICY, total_s=2.0)) as catalog:
            catalog.update_many({f"{number:02}": lambda document: document for number in range(12)})
            documents = catalog.documents()
            assert [next(documents).id for _ in range(5)] == ["00", "01", "02", "03", "04"]
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            begun = time.monotonic()
            with pytest.raises(StorageError, match="did not list documents within 2 seconds"):
                next(documents)
            assert time.monotonic() - begun < 2.0 + SLACK_S
            with pytest.raises(StorageError):
                catalog.update("00", counted)
    # What a reader already has stays right, and the catalogue works again with a server that is back.
    with emulators.cosmos(server.port) as again:
        access = replace(access, key=again.key)
        install(access)
        with CosmosCatalog(access, RETRY_POLICY) as catalog:
            assert catalog.update("00", counted).total_annotations == 1


def test_a_slow_service_gets_its_time(catalog: CosmosCatalog, proxy: FaultProxy) -> None:
    proxy.use(lambda request: Fault(late=0.3, trickle=(200, 0.01)))
    assert [document.id for document in catalog.documents()] == ["a", "b", "c"]
