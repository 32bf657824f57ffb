"""Bad days between us and Blob Storage, each provoked on the wire: work goes on, or ends with an error in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from storage.azure.blob import BlobAccount
from storage.azure.patience import Patience
from storage.images.blob import BlobImages
from storage.registry.blob import BlobRegistry
from taxonomy.errors import ImageForbiddenError, ImageUnavailableError, StorageError
from tests.azure import emulators
from tests.azure.fault_proxy import Fault, FaultProxy, Request, fault_proxy
from tests.storage.registries import BlobPlace, publish
from tests.waiting import eventually

pytestmark = pytest.mark.slow

PATIENCE = Patience(total_s=2.0, attempt_s=0.6, first_pause_s=0.05, longest_pause_s=0.2)
TIMEOUT_S = 1.5
SLACK_S = 1.0
DATA = bytes(range(256)) * 400

PASSING = {
    "throttled": Fault(status=429, headers={"Retry-After": "1"}),
    "busy": Fault(status=503),
    "broken": Fault(status=500),
    "reset": Fault(reset=True),
    "lost answer": Fault(lose=True),
    "cut": Fault(cut=1000),
    "slow answer": Fault(late=30.0),
    "slow server": Fault(delay=30.0),
    "trickle": Fault(trickle=(1000, 0.2)),
}


def once(fault: Fault, wanted: Callable[[Request], bool] = lambda request: True) -> Callable[[Request], Fault | None]:
    """The fault for the first request that is wanted, and none for all others."""
    left = [fault]
    return lambda request: left.pop() if left and wanted(request) else None


def always(fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault


def is_write_of(name: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and name in request.path


@pytest.fixture
def proxy(azurite: emulators.Blob) -> Iterator[FaultProxy]:
    with fault_proxy(azurite.port) as running:
        yield running


@pytest.fixture
def account(azurite: emulators.Blob, proxy: FaultProxy) -> Iterator[BlobAccount]:
    opened = BlobAccount.from_connection_string(azurite.through(proxy.port), PATIENCE)
    yield opened
    opened.close()


@pytest.fixture
def place(account: BlobAccount, tmp_path: Path) -> Iterator[BlobPlace]:
    opened = BlobPlace(account, uuid4().hex, tmp_path / "machines")
    yield opened
    opened.close()


@pytest.fixture
def images(account: BlobAccount, tmp_path: Path) -> BlobImages:
    return BlobImages(account, tmp_path / "cache", max_bytes=10**6, cache_bytes=10**7, timeout_s=TIMEOUT_S)


@pytest.fixture
def uri(blob_account: BlobAccount) -> str:
    container = uuid4().hex
    blob_account.run(lambda: blob_account.write(container, "a.jpg", DATA))
    return f"azure-blob://{container}/a.jpg"


# --- an image


@pytest.mark.parametrize("name", PASSING)
def test_an_image_comes_after_a_fault(proxy: FaultProxy, images: BlobImages, uri: str, name: str) -> None:
    proxy.use(once(PASSING[name]))
    begun = time.monotonic()
    assert images.read(uri) == DATA
    took = time.monotonic() - begun
    assert took < TIMEOUT_S + SLACK_S
    if name == "throttled":
        assert took >= 1.0  # Azure's wish, which the SDK does not hear


@pytest.mark.parametrize("name", PASSING)
def test_an_image_that_cannot_be_had_ends_in_time(proxy: FaultProxy, images: BlobImages, uri: str, name: str) -> None:
    proxy.use(always(PASSING[name]))
    begun = time.monotonic()
    with pytest.raises(ImageUnavailableError, match=r"read the blob .*a\.jpg within 1.5 seconds"):
        images.read(uri)
    assert time.monotonic() - begun < TIMEOUT_S + SLACK_S
    assert len(proxy.requests) < 40


def test_a_refused_connection_ends_in_time(tmp_path: Path) -> None:
    text = f"AccountName=a;AccountKey=aa==;BlobEndpoint=http://127.0.0.1:{emulators.free_port()}/a;"
    account = BlobAccount.from_connection_string(text, PATIENCE)
    images = BlobImages(account, tmp_path, max_bytes=10, cache_bytes=10, timeout_s=1.0)
    begun = time.monotonic()
    with pytest.raises(ImageUnavailableError, match="within 1 seconds"):
        images.read("azure-blob://catalogue/a.jpg")
    assert time.monotonic() - begun < 1.0 + SLACK_S
    account.close()


def test_a_right_that_was_taken_away_is_told_at_once_and_the_copy_not_used(
    proxy: FaultProxy, images: BlobImages, uri: str
) -> None:
    assert images.read(uri) == DATA
    proxy.use(always(Fault(status=403)))
    with pytest.raises(ImageForbiddenError, match="access is refused"):
        images.read(uri)
    assert len(proxy.requests) == 1


def test_while_azure_is_away_the_copy_is_used_without_asking_each_time(
    proxy: FaultProxy, images: BlobImages, uri: str
) -> None:
    assert images.read(uri) == DATA
    proxy.use(always(Fault(status=503)))
    assert images.read(uri) == DATA
    asked = len(proxy.requests)
    begun = time.monotonic()
    assert images.read(uri) == DATA
    assert time.monotonic() - begun < 0.5
    assert len(proxy.requests) == asked


def test_many_images_among_faults(proxy: FaultProxy, account: BlobAccount, tmp_path: Path) -> None:
    images = BlobImages(account, tmp_path / "cache", max_bytes=10**6, cache_bytes=10**7, timeout_s=8.0)
    container = uuid4().hex
    names = [f"{number}.jpg" for number in range(120)]

    async def upload() -> None:
        for name in names:
            await account.write(container, name, name.encode() * 500)

    account.run(upload)
    faults = [fault for name, fault in PASSING.items() if "slow" not in name]

    def some(request: Request) -> Fault | None:
        return faults[request.number // 5 % len(faults)] if request.number % 5 == 0 else None

    proxy.use(some)
    got: dict[str, object] = {}
    images.read_many([f"azure-blob://{container}/{name}" for name in names], got.__setitem__)
    assert got == {f"azure-blob://{container}/{name}": name.encode() * 500 for name in names}


# --- a model


LARGE = bytes(range(256)) * 50_000  # 12.8 MB: four requests


def publish_large(registry: BlobRegistry) -> None:
    with registry.stage("backbone") as staged:
        (staged / "backbone.onnx").write_bytes(LARGE)
        registry.publish("backbone", staged, {})


@pytest.mark.parametrize("name", PASSING)
def test_a_model_goes_up_and_comes_down_through_faults(
    proxy: FaultProxy, place: BlobPlace, blob_account: BlobAccount, name: str, tmp_path: Path
) -> None:
    """Each kind of request is met once, on the way up and on the way down."""
    met: set[str] = set()

    def first_of_each_kind(request: Request) -> Fault | None:
        path, _, query = request.path.partition("?")
        kind = f"{request.method} {query.partition('&')[0].partition('=')[0]} {path.rpartition('/')[2]}"
        if kind in met:
            return None
        met.add(kind)
        return PASSING[name]

    # Nine kinds of request, each waited for.
    patient = replace(PATIENCE, attempt_s=0.8, total_s=8.0)
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
    assert time.monotonic() - begun < PATIENCE.total_s + SLACK_S
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
    assert registry.rollback("project-4") == "v1"  # twice would be v2 again
    assert place.open().alias_stamp("project-4") == ("v1", 3)


def test_aliases_whose_answer_is_lost_while_others_change_them(
    proxy: FaultProxy, place: BlobPlace, blob_account: BlobAccount, tmp_path: Path
) -> None:
    """Ours was written, theirs came after it: doing ours again would take theirs back."""
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
    assert time.monotonic() - begun < PATIENCE.total_s + SLACK_S
    proxy.use()
    assert place.open().alias_stamp("project-4") == ("v1", 1)


# --- a server that dies


def test_killed_in_the_middle_of_a_download(tmp_path: Path) -> None:
    with emulators.blob() as blob, fault_proxy(blob.port) as proxy:
        account = BlobAccount.from_connection_string(blob.through(proxy.port), PATIENCE)
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
        assert time.monotonic() - begun < PATIENCE.total_s + 2 * SLACK_S
        assert parts >= 3
        # Nothing half-written: no version, and no file that somebody could take for one.
        assert list(tmp_path.glob("machine-1/backbone/*")) == []
        account.close()


def test_back_in_the_middle_of_a_download(azurite: emulators.Blob, proxy: FaultProxy, place: BlobPlace) -> None:
    """As when a server is restarted: the parts that came are not fetched again."""
    publish_large(place.open())
    gone_until: list[float] = []

    def away_after_two_parts(request: Request) -> Fault | None:
        parts = sum(each.path.endswith("backbone.onnx") for each in proxy.requests)
        if parts == 3 and not gone_until:
            gone_until.append(time.monotonic() + 1.0)
        return Fault(reset=True) if gone_until and time.monotonic() < gone_until[0] else None

    proxy.use(away_after_two_parts)
    found = place.open().get("backbone", "v1")
    assert (found.path / "backbone.onnx").read_bytes() == LARGE
    ranges = [each.headers.get("x-ms-range") for each in proxy.requests if each.path.endswith("backbone.onnx")]
    assert [ranges.count(each) for each in dict.fromkeys(ranges)][:2] == [1, 1]


# --- many servers


def test_many_servers_see_a_new_champion_soon(place: BlobPlace) -> None:
    publisher = place.open()
    for text in "ab":
        publish(publisher, text)
    publisher.promote("project-4", "v1")
    servers = [place.open(look_every_s=0.3) for _ in range(3)]
    for server in servers:
        assert server.champion("project-4") == "v1"
    stamps = [server.alias_stamp("project-4") for server in servers]
    publisher.promote("project-4", "v2")
    for server, stamp in zip(servers, stamps, strict=True):
        eventually("seen", lambda: server.alias_stamp("project-4") != stamp, timeout=5, every=0.02)  # noqa: B023
        assert server.champion("project-4") == "v2"


def test_other_processes_of_the_machine_see_a_change_at_once(place: BlobPlace, tmp_path: Path) -> None:
    server, worker = (place.open_on(tmp_path / "machine", look_every_s=3600) for _ in range(2))
    for text in ("one", "two"):
        publish(worker, text)
    worker.promote("project-4", "v1")
    assert server.champion("project-4") == "v1"
    worker.promote("project-4", "v2")
    stamp = server.alias_stamp("project-4")
    assert server.champion("project-4") == "v2"
    worker.rollback("project-4")
    assert (server.champion("project-4"), server.previous("project-4")) == ("v1", "v2")
    assert server.alias_stamp("project-4") != stamp


def test_a_server_asks_seldom_and_never_waits(proxy: FaultProxy, place: BlobPlace) -> None:
    publisher = place.open()
    publish(publisher)
    publisher.promote("project-4", "v1")
    server = place.open(look_every_s=0.5)
    server.champion("project-4")
    proxy.use(always(Fault(delay=0.2)))
    slowest, until = 0.0, time.monotonic() + 2.0
    while time.monotonic() < until:
        begun = time.monotonic()
        server.alias_stamp("project-4")
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.001)
    assert slowest < 0.15
    assert 2 <= len(proxy.requests) <= 5


def test_one_that_was_idle_waits_for_today(place: BlobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.registry import blob_aliases

    monkeypatch.setattr(blob_aliases, "_STALE_S", 0.3)
    publisher = place.open()
    for text in "ab":
        publish(publisher, text)
    publisher.promote("project-4", "v1")
    server = place.open(look_every_s=0.1)
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
    server = place.open_on(mirror, look_every_s=0.1)
    server.verify(server.get("project-4", "v1"))
    assert server.champion("project-4") == "v1"
    stamp = server.alias_stamp("project-4")
    proxy.use(always(Fault(status=503)))
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert server.alias_stamp("project-4") == stamp
        time.sleep(0.05)
    server.verify(server.get("project-4", "v1"))
    assert caplog.text.count("What is known goes on to be used") <= 1
    # And after a start without Azure, from what is on this machine.
    again = place.open_on(mirror, look_every_s=10.0)
    assert again.champion("project-4") == "v1"
    again.verify(again.get("project-4", "v1"))
    with pytest.raises(StorageError, match="within 2 seconds"):
        again.versions("project-4")
    with pytest.raises(StorageError):
        place.open(look_every_s=10.0).champion("project-4")  # a new machine knows nothing, and says so
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
        patch.setattr("storage.registry.blob.time.time", lambda: two_days_on)
        publish(registry)
    assert left not in place.names()
    for version in registry.versions("project-4"):
        place.open().verify(version)
