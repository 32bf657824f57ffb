"""Models that many servers share through Blob Storage."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.taxonomy.errors import StorageError
from tests.fault_proxy import Fault, FaultProxy, Request
from tests.storage.blob_faults import always
from tests.storage.registries import BlobPlace, publish
from tests.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def place(proxied_place: BlobPlace) -> BlobPlace:
    return proxied_place


def test_many_servers_see_a_new_champion_soon(place: BlobPlace) -> None:
    publisher = place.open()
    for text in "ab":
        publish(publisher, text)
    publisher.promote("project-4", "v1")
    servers = [place.open(refresh_every_s=0.3) for _ in range(3)]
    for server in servers:
        assert server.champion("project-4") == "v1"
    stamps = [server.alias_stamp("project-4") for server in servers]
    publisher.promote("project-4", "v2")
    for server, stamp in zip(servers, stamps, strict=True):
        eventually("seen", lambda: server.alias_stamp("project-4") != stamp, timeout=5, every=0.02)  # noqa: B023
        assert server.champion("project-4") == "v2"


def test_other_processes_of_the_machine_see_a_change_at_once(place: BlobPlace, tmp_path: Path) -> None:
    server, worker = (place.open_on(tmp_path / "machine", refresh_every_s=3600) for _ in range(2))
    for text in ("one", "two"):
        publish(worker, text)
    worker.promote("project-4", "v1")
    assert server.champion("project-4") == "v1"
    worker.promote("project-4", "v2")
    stamp = server.alias_stamp("project-4")
    assert server.champion("project-4") == "v2"
    worker.rollback("project-4")
    assert (server.champion("project-4"), server.previous("project-4")) == ("v1", None)
    assert server.alias_stamp("project-4") != stamp


def test_a_server_asks_seldom(proxy: FaultProxy, place: BlobPlace) -> None:
    publisher = place.open()
    publish(publisher)
    publisher.promote("project-4", "v1")
    server = place.open(refresh_every_s=3600)
    server.champion("project-4")
    proxy.use()
    assert {server.alias_stamp("project-4") for _ in range(1000)} == {("v1", 1)}
    assert proxy.requests == []


def test_a_server_never_waits(
    azurite: emulators.Blob, proxy: FaultProxy, place: BlobPlace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that Azure does not answer takes seconds; the caller gets an answer before it times out."""
    publisher = place.open()
    publish(publisher)
    publisher.promote("project-4", "v1")
    account = BlobAccount.from_connection_string(azurite.through(proxy.port), RetryPolicy(total_s=60.0, attempt_s=60.0))
    patient = BlobPlace(account, place.container, tmp_path / "patient")
    server = patient.open(refresh_every_s=0.1)
    server.champion("project-4")
    answer = threading.Event()

    def hold(request: Request) -> None:
        answer.wait(60)

    proxy.use(hold)
    eventually("a look has begun", lambda: server.alias_stamp("project-4") and proxy.requests, timeout=30)
    assert {server.alias_stamp("project-4") for _ in range(1000)} == {("v1", 1)}
    assert len(proxy.requests) == 1
    assert "The last known state stays in use" not in caplog.text  # logged when a refresh fails
    answer.set()
    patient.close()
    account.close()


def test_one_that_was_idle_waits_for_today(place: BlobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    from taxonomist.storage.registry import blob_aliases

    monkeypatch.setattr(blob_aliases, "_STALE_S", 0.3)
    publisher = place.open()
    for text in "ab":
        publish(publisher, text)
    publisher.promote("project-4", "v1")
    server = place.open(refresh_every_s=0.1)
    assert server.champion("project-4") == "v1"
    publisher.promote("project-4", "v2")
    time.sleep(0.4)
    assert server.champion("project-4") == "v2"


def test_serving_goes_on_while_azure_is_away(
    proxy: FaultProxy, place: BlobPlace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = place.open()
    publish(publisher)
    publisher.promote("project-4", "v1")
    mirror = tmp_path / "server"
    server = place.open_on(mirror, refresh_every_s=0.1)
    server.verify(server.get("project-4", "v1"))
    assert server.champion("project-4") == "v1"
    stamp = server.alias_stamp("project-4")
    proxy.use(always(Fault(status=503)))
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert server.alias_stamp("project-4") == stamp
        time.sleep(0.05)
    server.verify(server.get("project-4", "v1"))
    assert caplog.text.count("The last known state stays in use") <= 1
    # And after a start without Azure, from what is on this machine.
    again = place.open_on(mirror, refresh_every_s=10.0)
    assert again.champion("project-4") == "v1"
    again.verify(again.get("project-4", "v1"))
    with pytest.raises(StorageError, match="within 2 seconds"):
        again.versions("project-4")
    with pytest.raises(StorageError):
        place.open(refresh_every_s=10.0).champion("project-4")  # a new machine knows nothing, and says so
    proxy.use()
    eventually("back", lambda: server.champion("project-4") == "v1", timeout=5)


def test_a_copy_that_is_damaged_is_fetched_again(place: BlobPlace) -> None:
    registry = place.open()
    version = publish(registry)
    (version.path / "head.safetensors").write_text("WEIGHTS")
    registry.verify(version)
    assert (version.path / "head.safetensors").read_text() == "weights"
    (version.path / "head.safetensors").unlink()
    assert registry.get("project-4", "v1").path == version.path
    assert (version.path / "head.safetensors").read_text() == "weights"


def test_what_publishers_left_that_died_goes_after_a_day(place: BlobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = place.open()
    publish(registry)
    left = f"models/project-4/files-{uuid4().hex}/head.safetensors"
    place.account.run(lambda: place.account.write(place.container, left, b"half"))
    publish(registry)
    assert left in place.names()
    two_days_on = time.time() + 2 * 86_400
    with monkeypatch.context() as patch:
        patch.setattr("taxonomist.storage.registry.blob_versions.time.time", lambda: two_days_on)
        publish(registry)
    assert left not in place.names()
    for version in registry.versions("project-4"):
        place.open().verify(version)
