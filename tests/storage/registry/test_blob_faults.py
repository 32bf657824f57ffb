"""Models in Blob Storage with faults on the wire: operations succeed, or fail with an error in time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.registry.blob import BlobRegistry
from taxonomist.taxonomy.errors import StorageError
from tests.fault_proxy import Fault, FaultProxy, Request, fault_proxy
from tests.storage.blob_faults import PASSING, RETRY_POLICY, SLACK_S, is_write_of, once
from tests.storage.registries import BlobPlace, publish
from tests.waiting import eventually

pytestmark = pytest.mark.slow

LARGE = bytes(range(256)) * 50_000  # 12.8 MB: four requests


@pytest.fixture
def place(proxied_place: BlobPlace) -> BlobPlace:
    return proxied_place


def publish_large(registry: BlobRegistry) -> None:
    with registry.stage("backbone") as staged:
        (staged / "backbone.onnx").write_bytes(LARGE)
        registry.publish("backbone", staged, {})


@pytest.mark.parametrize("name", PASSING)
def test_a_model_goes_up_and_comes_down_through_faults(
    proxy: FaultProxy, place: BlobPlace, blob_account: BlobAccount, name: str, tmp_path: Path
) -> None:
    """Each kind of request meets the fault once, in upload and in download."""
    met: set[str] = set()

    def first_of_each_kind(request: Request) -> Fault | None:
        path, _, query = request.path.partition("?")
        kind = f"{request.method} {query.partition('&')[0].partition('=')[0]} {path.rpartition('/')[2]}"
        if kind in met:
            return None
        met.add(kind)
        return PASSING[name]

    # Nine kinds of request, each waited for.
    patient = replace(RETRY_POLICY, attempt_s=0.8, total_s=8.0)
    account = BlobAccount.from_connection_string(_through(proxy, place), patient)
    through = BlobPlace(account, place.container, tmp_path / "through")
    proxy.use(first_of_each_kind)
    publisher = through.open()
    publish_large(publisher)
    publisher.promote("backbone", "v1")
    other = through.open()
    assert other.champion("backbone") == "v1"
    found = other.get("backbone", "v1")
    assert (found.path / "backbone.onnx").read_bytes() == LARGE
    assert len(met) >= 6
    account.close()
    proxy.use()
    # Nothing twice: one version, one change of the aliases, no files but its own.
    fresh = BlobPlace(blob_account, place.container, tmp_path / "fresh")
    assert [version.version for version in fresh.open().versions("backbone")] == ["v1"]
    assert fresh.open().alias_stamp("backbone") == ("v1", 1)
    assert len(fresh.names("models/backbone/")) == 2


def _through(proxy: FaultProxy, place: BlobPlace) -> str:
    account = place.account
    return f"AccountName={account.account};AccountKey={account.key};BlobEndpoint={account.url};"


@pytest.mark.parametrize("what", ["files-", "manifest.json"])
@pytest.mark.parametrize("name", ["busy", "slow server"])
def test_what_cannot_be_published_is_not_there(
    proxy: FaultProxy, place: BlobPlace, blob_account: BlobAccount, tmp_path: Path, what: str, name: str
) -> None:
    registry = place.open()
    publish(registry)
    proxy.use(lambda request: PASSING[name] if is_write_of(what)(request) else None)
    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"did not write the blob .* within 2 seconds"):
        publish(registry)
    assert time.monotonic() - begun < RETRY_POLICY.total_s + SLACK_S
    proxy.use()
    assert [version.version for version in registry.versions("project-4")] == ["v1"]
    assert publish(registry).version == "v2"
    left = [path.name for path in (registry.get("project-4", "v1").path.parent).iterdir()]
    assert sorted(left) == ["v1", "v2"]


def test_a_manifest_whose_answer_is_lost_is_published_once(proxy: FaultProxy, place: BlobPlace) -> None:
    registry = place.open()
    proxy.use(once(Fault(lose=True), is_write_of("manifest.json")))
    assert publish(registry).version == "v1"
    assert [version.version for version in place.open().versions("project-4")] == ["v1"]
    assert publish(registry).version == "v2"


@pytest.mark.parametrize("fault", [Fault(lose=True), Fault(late=30.0)], ids=["lost", "late"])
def test_aliases_whose_answer_is_lost_change_once(proxy: FaultProxy, place: BlobPlace, fault: Fault) -> None:
    registry = place.open()
    for text in "ab":
        publish(registry, text)
    for number, version in enumerate(["v1", "v2"], start=1):
        proxy.use(once(fault, is_write_of("aliases.json")))
        registry.promote("project-4", version)
        assert place.open().alias_stamp("project-4") == (version, number)
    proxy.use(once(fault, is_write_of("aliases.json")))
    assert registry.rollback("project-4") == "v1"  # twice would have nothing to go back to
    assert place.open().alias_stamp("project-4") == ("v1", 3)


def test_aliases_whose_answer_is_lost_while_others_change_them(
    proxy: FaultProxy, place: BlobPlace, blob_account: BlobAccount, tmp_path: Path
) -> None:
    """Our change was written and another followed: a retry of ours would undo the other."""
    registry = place.open()
    for text in "abc":
        publish(registry, text)
    registry.promote("project-4", "v1")
    registry.promote("project-4", "v2")
    others = BlobPlace(blob_account, place.container, tmp_path / "others").open()
    writes = 0

    def lose_and_let_others_in(request: Request) -> Fault | None:
        nonlocal writes
        if not is_write_of("aliases.json")(request):
            return None
        writes += 1
        if writes == 1:
            return Fault(lose=True)
        if writes == 2:  # the repetition waits until others are done
            threading.Thread(target=others.promote, args=("project-4", "v3")).start()
            return Fault(delay=0.4)
        return None

    proxy.use(lose_and_let_others_in)
    registry.rollback("project-4")
    eventually("theirs", lambda: place.open().champion("project-4") == "v3", timeout=5)
    assert place.open().alias_stamp("project-4") == ("v3", 4)


@pytest.mark.parametrize("name", ["busy", "reset", "slow server"])
def test_a_promotion_that_cannot_be_written_changes_nothing(proxy: FaultProxy, place: BlobPlace, name: str) -> None:
    registry = place.open()
    for text in "ab":
        publish(registry, text)
    registry.promote("project-4", "v1")
    proxy.use(lambda request: PASSING[name] if is_write_of("aliases.json")(request) else None)
    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"did not write the blob .*aliases\.json within 2 seconds"):
        registry.promote("project-4", "v2")
    assert time.monotonic() - begun < RETRY_POLICY.total_s + SLACK_S
    proxy.use()
    assert place.open().alias_stamp("project-4") == ("v1", 1)


def test_killed_in_the_middle_of_a_download(tmp_path: Path) -> None:
    with emulators.blob() as blob, fault_proxy(blob.port) as proxy:
        account = BlobAccount.from_connection_string(blob.through(proxy.port), RETRY_POLICY)
        place = BlobPlace(account, uuid4().hex, tmp_path)
        publish_large(place.open())
        parts = 0

        def kill_at_the_third_part(request: Request) -> Fault | None:
            nonlocal parts
            parts += request.path.endswith("backbone.onnx")
            if parts == 3:
                blob.process.kill()
                blob.process.wait()
            return Fault(trickle=(2**20, 0.01))

        proxy.use(kill_at_the_third_part)
        other = place.open()
        begun = time.monotonic()
        with pytest.raises(StorageError, match="within 2 seconds"):
            other.get("backbone", "v1")
        assert time.monotonic() - begun < RETRY_POLICY.total_s + 2 * SLACK_S
        assert parts >= 3
        # No partial version and no partial file is left.
        assert list(tmp_path.glob("machine-1/backbone/*")) == []
        account.close()


def test_back_in_the_middle_of_a_download(azurite: emulators.Blob, proxy: FaultProxy, place: BlobPlace) -> None:
    """After a restart of the server, received parts are not fetched again."""
    publish_large(place.open())
    gone_until: list[float] = []

    def away_after_two_parts(request: Request) -> Fault | None:
        parts = sum(request.path.endswith("backbone.onnx") for request in proxy.requests)
        if parts == 3 and not gone_until:
            gone_until.append(time.monotonic() + 1.0)
        return Fault(reset=True) if gone_until and time.monotonic() < gone_until[0] else None

    proxy.use(away_after_two_parts)
    found = place.open().get("backbone", "v1")
    assert (found.path / "backbone.onnx").read_bytes() == LARGE
    ranges = [sent.headers.get("x-ms-range") for sent in proxy.requests if sent.path.endswith("backbone.onnx")]
    assert [ranges.count(distinct) for distinct in dict.fromkeys(ranges)][:2] == [1, 1]
