"""Images in Azure Blob Storage, read from Azurite."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from azure.storage.blob import (
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    UserDelegationKey,
    generate_blob_sas,
)

from storage.azure import links
from storage.azure.blob import BlobAccount
from storage.images.blob import BlobImages
from storage.images.blob_address import BlobAddress, blob_address
from storage.images.http import HttpImages
from storage.images.router import RoutedImages
from taxonomy.errors import (
    ConfigError,
    ImageError,
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
)
from tests.azure import emulators
from tests.azure.fault_proxy import FaultProxy, fault_proxy
from tests.storage.conftest import QUICK

ACCOUNT = "https://pictures.blob.core.windows.net"
ODD_NAME = "Bäder 1#2/a b%20c?d+e.jpg"


# --- addresses


def resolve(inner: str) -> str:
    return f"/tasks/7/resolve/?fileuri={base64.b64encode(inner.encode()).decode()}"


@pytest.mark.parametrize(
    ("uri", "container", "names"),
    [
        ("azure-blob://catalogue/a.jpg", "catalogue", ("a.jpg",)),
        ("azure-blob://catalogue/one/two/a.jpg", "catalogue", ("one/two/a.jpg",)),
        ("azure-blob://catalogue/a%20b.jpg", "catalogue", ("a%20b.jpg", "a b.jpg")),
        ("azure-blob://catalogue/a b#1?.jpg", "catalogue", ("a b#1?.jpg",)),
        ("azure-blob://catalogue/a.jpg?sv=2026&sig=abc%3D", "catalogue", ("a.jpg",)),
        (f"{ACCOUNT}/catalogue/one/a.jpg", "catalogue", ("one/a.jpg",)),
        (f"{ACCOUNT}/catalogue/a%20b.jpg?sp=r&sv=2026-10-06&sig=abc", "catalogue", ("a b.jpg",)),
        (f"{ACCOUNT}:443/catalogue/a.jpg", "catalogue", ("a.jpg",)),
        ("http://PICTURES.blob.core.windows.net/catalogue/a.jpg", "catalogue", ("a.jpg",)),
        (f"{ACCOUNT}/catalogue/{quote(ODD_NAME)}", "catalogue", (ODD_NAME,)),
        (resolve("azure-blob://catalogue/a.jpg"), "catalogue", ("a.jpg",)),
        ("http://localhost:8080" + resolve(f"{ACCOUNT}/catalogue/a.jpg"), "catalogue", ("a.jpg",)),
    ],
)
def test_addresses_of_blobs(uri: str, container: str, names: tuple[str, ...]) -> None:
    assert blob_address(uri, ACCOUNT) == BlobAddress(container, names)


def test_the_address_of_an_account_behind_a_path() -> None:
    local = "http://127.0.0.1:10000/pictures"
    assert blob_address(f"{local}/catalogue/a.jpg", local) == BlobAddress("catalogue", ("a.jpg",))
    for other in ("http://127.0.0.1:10001/pictures/c/a.jpg", "http://127.0.0.1:10000/others/c/a.jpg"):
        assert blob_address(other, local) is None


@pytest.mark.parametrize(
    "uri",
    [
        "https://others.blob.core.windows.net/catalogue/a.jpg",
        "https://pictures.blob.core.windows.net.evil.example/catalogue/a.jpg",
        "https://pictures.blob.core.windows.net@evil.example/catalogue/a.jpg",
        "https://evil.example@pictures.blob.core.windows.net/catalogue/a.jpg",
        "https://pictures.blob.core.windows.net:8443/catalogue/a.jpg",
        "https://[bad/catalogue/a.jpg",
        "/data/upload/4/a.jpg",
        resolve("s3://catalogue/a.jpg"),
        "a.jpg",
        "",
    ],
)
def test_all_others_are_not_ours(uri: str) -> None:
    assert blob_address(uri, ACCOUNT) is None


@pytest.mark.parametrize(
    "uri",
    [
        "azure-blob://catalogue",
        "azure-blob://catalogue/",
        "azure-blob://Catalogue/a.jpg",
        "azure-blob://a/a.jpg",
        "azure-blob://catalogue/../models/v1.onnx",
        "azure-blob://catalogue/%2e%2e/models/v1.onnx",
        f"{ACCOUNT}/catalogue/x/%2E%2E/%2E%2E/models/v1.onnx",
        f"{ACCOUNT}/catalogue/..%5C..%5Cmodels/v1.onnx",
        f"{ACCOUNT}/catalogue/{'x' * 1025}",
        f"{ACCOUNT}/",
    ],
)
def test_what_leads_elsewhere_is_refused_without_asking(uri: str, tmp_path: Path) -> None:
    account = BlobAccount(ACCOUNT, key="bm9uZQ==")
    images = BlobImages(account, tmp_path, max_bytes=100, cache_bytes=1000)
    assert images.owns(uri)
    for refused in (images.read, images.link):
        with pytest.raises(ImageForbiddenError):
            refused(uri)
    account.close()


def test_without_an_account_the_setting_is_named() -> None:
    with HttpImages([], 100, 5.0) as http, pytest.raises(ImageForbiddenError, match="blob_connection_string"):
        RoutedImages(http=http).read("azure-blob://catalogue/a.jpg")


@pytest.mark.parametrize("text", ["", "AccountName=a", "SharedAccessSignature=sv=1;BlobEndpoint=https://a", "nonsense"])
def test_a_connection_string_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="AccountKey"):
        BlobAccount.from_connection_string(text)


def test_connection_strings_of_the_portal() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=pictures;AccountKey=aa==;EndpointSuffix=core.windows.net"
    account = BlobAccount.from_connection_string(text)
    assert (account.url, account.account, account.key) == (ACCOUNT, "pictures", "aa==")


# --- links


def test_links_live_for_the_time_set_and_stay_the_same_for_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = links.BlobLinks(BlobAccount(ACCOUNT, key=base64.b64encode(b"key").decode()), 3600)
    seen: dict[str, datetime] = {}
    for minute in range(0, 60, 5):
        now = datetime(2026, 1, 1, 12, minute, 1, tzinfo=UTC)
        monkeypatch.setattr(links.time, "time", now.timestamp)
        link = made.link("catalogue", ODD_NAME)
        query = parse_qs(urlsplit(link).query)
        expiry = datetime.fromisoformat(query["se"][0])
        assert timedelta(minutes=44) < expiry - now <= timedelta(minutes=60)
        assert (query["sp"], query["sr"], query["spr"]) == (["r"], ["b"], ["https"])
        assert urlsplit(link).path == f"/catalogue/{quote(ODD_NAME)}"
        seen[link] = expiry
    assert len(seen) == 4


def test_links_by_entra_id_are_signed_with_a_key_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[datetime, datetime]] = []

    async def delegation_key(self: BlobAccount, start: datetime, expiry: datetime) -> UserDelegationKey:
        asked.append((start, expiry))
        key = UserDelegationKey()
        key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "me", "tenant", "b", "2026-06-06"
        key.signed_start, key.signed_expiry = start.isoformat(), expiry.isoformat()
        key.value = base64.b64encode(b"key").decode()
        return key

    monkeypatch.setattr(BlobAccount, "delegation_key", delegation_key)
    account = BlobAccount(ACCOUNT)
    made = links.BlobLinks(account, 3600)
    for _ in range(3):
        assert parse_qs(urlsplit(made.link("catalogue", "a.jpg")).query)["skoid"] == ["me"]
    assert len(asked) == 1
    later = time.time() + 86_400
    monkeypatch.setattr(links.time, "time", lambda: later)
    made.link("catalogue", "a.jpg")
    assert len(asked) == 2
    account.close()


# --- Azurite


@pytest.fixture
def container(azurite: emulators.Blob) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service.create_container(uuid4().hex)


@pytest.fixture
def proxy(azurite: emulators.Blob) -> Iterator[FaultProxy]:
    with fault_proxy(azurite.port) as running:
        yield running


@pytest.fixture
def account(azurite: emulators.Blob, proxy: FaultProxy) -> Iterator[BlobAccount]:
    """By way of the proxy, which counts."""
    opened = BlobAccount.from_connection_string(azurite.through(proxy.port), QUICK)
    yield opened
    opened.close()


@pytest.fixture
def images(account: BlobAccount, tmp_path: Path) -> BlobImages:
    return BlobImages(account, tmp_path / "cache", max_bytes=20_000_000, cache_bytes=50_000_000, timeout_s=5.0)


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


@pytest.mark.slow
def test_every_form_reads_the_same_blob(images: BlobImages, account: BlobAccount, container: ContainerClient) -> None:
    name, data = "one/Bäder 1#2+3.jpg", b"a picture"
    container.upload_blob(name, data)
    where = f"{container.container_name}/{quote(name)}"
    for uri in (
        f"azure-blob://{container.container_name}/{name}",
        f"azure-blob://{where}",
        f"{account.url}/{where}",
        f"{account.url}/{where}?sp=r&sig=expired",
        resolve(f"azure-blob://{container.container_name}/{name}"),
    ):
        assert images.owns(uri)
        assert images.read(uri) == data


@pytest.mark.slow
def test_a_name_that_has_a_percent_sign(images: BlobImages, container: ContainerClient) -> None:
    container.upload_blob("100%25.jpg", b"as it is")
    container.upload_blob("100%.jpg", b"decoded")
    assert images.read(f"azure-blob://{container.container_name}/100%25.jpg") == b"as it is"
    assert images.read(f"azure-blob://{container.container_name}/100%.jpg") == b"decoded"


@pytest.mark.slow
def test_it_is_sent_once_and_asked_for_again(
    images: BlobImages, account: BlobAccount, container: ContainerClient, proxy: FaultProxy, tmp_path: Path
) -> None:
    container.upload_blob("a.jpg", b"first")
    uri = f"azure-blob://{container.container_name}/a.jpg"
    assert images.read(uri) == b"first"
    proxy.use()
    again = BlobImages(account, tmp_path / "cache", max_bytes=1000, cache_bytes=1000)
    assert again.read(uri) == images.read(uri) == b"first"
    assert [request.headers.get("if-none-match", "") != "" for request in proxy.requests] == [True, True]
    container.upload_blob("a.jpg", b"second", overwrite=True)
    assert images.read(uri) == b"second"
    container.delete_blob("a.jpg")
    for _ in range(2):
        with pytest.raises(ImageNotFoundError):
            images.read(uri)


@pytest.mark.slow
def test_a_picture_that_needs_several_requests(images: BlobImages, container: ContainerClient) -> None:
    data = bytes(range(256)) * 50_000
    container.upload_blob("large.jpg", data)
    assert images.read(f"azure-blob://{container.container_name}/large.jpg") == data


@pytest.mark.slow
def test_the_hash_of_the_blob_is_checked(images: BlobImages, container: ContainerClient) -> None:
    right, wrong = (hashlib.md5(text).digest() for text in (b"a picture", b"another"))
    for name, md5 in (("right.jpg", right), ("wrong.jpg", wrong)):
        container.get_blob_client(name).upload_blob(b"a picture")
        container.get_blob_client(name).set_http_headers(ContentSettings(content_md5=bytearray(md5)))
    assert images.read(f"azure-blob://{container.container_name}/right.jpg") == b"a picture"
    with pytest.raises(ImageUnavailableError, match="Content-MD5"):
        images.read(f"azure-blob://{container.container_name}/wrong.jpg")


@pytest.mark.slow
def test_too_large_is_not_fetched_whole(
    account: BlobAccount, container: ContainerClient, proxy: FaultProxy, tmp_path: Path
) -> None:
    images = BlobImages(account, tmp_path, max_bytes=1000, cache_bytes=10_000)
    container.upload_blob("large.jpg", b"x" * 20_000_000)
    container.upload_blob("small.jpg", b"x" * 1000)
    container.upload_blob("empty.jpg", b"")
    assert len(images.read(f"azure-blob://{container.container_name}/small.jpg")) == 1000
    proxy.use()
    with pytest.raises(ImageTooLargeError, match=r"20,000,000 bytes.*max_image_bytes"):
        images.read(f"azure-blob://{container.container_name}/large.jpg")
    assert len(proxy.requests) == 1
    with pytest.raises(ImageUnavailableError, match="empty"):
        images.read(f"azure-blob://{container.container_name}/empty.jpg")


@pytest.mark.slow
def test_what_is_not_there(images: BlobImages, container: ContainerClient) -> None:
    for uri in (f"azure-blob://{container.container_name}/a.jpg", f"azure-blob://{uuid4().hex}/a.jpg"):
        with pytest.raises(ImageNotFoundError):
            images.read(uri)


@pytest.mark.slow
def test_only_the_containers_of_the_settings(account: BlobAccount, container: ContainerClient, tmp_path: Path) -> None:
    images = BlobImages(account, tmp_path, max_bytes=10, cache_bytes=100, containers=["others"])
    container.upload_blob("a.jpg", b"a picture")
    uri = f"azure-blob://{container.container_name}/a.jpg?sig=secret"
    for refused in (images.read, images.link):
        with pytest.raises(ImageForbiddenError, match="blob_containers") as error:
            refused(uri)
        assert "secret" not in str(error.value)


@pytest.mark.slow
def test_a_foreign_account_needs_an_allowed_host(images: BlobImages) -> None:
    with HttpImages([], 100, 5.0) as http:
        routed = RoutedImages(http=http, blobs=images)
        with pytest.raises(ImageForbiddenError, match="allowed_image_hosts"):
            routed.read("https://others.blob.core.windows.net/catalogue/a.jpg?sig=abc")


@pytest.mark.slow
def test_routed_to_blobs_and_not_cached_twice(images: BlobImages, container: ContainerClient) -> None:
    container.upload_blob("a.jpg", b"a picture")
    uri = f"azure-blob://{container.container_name}/a.jpg"
    with HttpImages([], 100, 5.0) as http:
        routed = RoutedImages(http=http, blobs=images)
        assert routed.read(uri) == routed.read(resolve(uri)) == b"a picture"
        assert routed.needs_no_cache(uri)
        assert not routed.needs_no_cache("https://example.org/a.jpg")


@pytest.mark.slow
def test_a_wrong_key_is_refused_without_telling_it(
    azurite: emulators.Blob, container: ContainerClient, tmp_path: Path
) -> None:
    container.upload_blob("a.jpg", b"a picture")
    key = base64.b64encode(b"wrong" * 12).decode()
    account = BlobAccount(azurite.url, QUICK, account=emulators.ACCOUNT, key=key)
    images = BlobImages(account, tmp_path, max_bytes=100, cache_bytes=100)
    with pytest.raises(ImageForbiddenError, match="access is refused") as error:
        images.read(f"azure-blob://{container.container_name}/a.jpg")
    assert key not in str(error.value)
    account.close()


@pytest.mark.slow
def test_links_open_one_blob_for_reading(
    azurite: emulators.Blob, images: BlobImages, container: ContainerClient
) -> None:
    name = "one/Bäder 1#2+3.jpg"
    container.upload_blob(name, b"a picture")
    container.upload_blob("other.jpg", b"another")
    link = images.link(f"azure-blob://{container.container_name}/{name}")
    assert link.startswith(images.origin)
    assert fetch(link) == (200, b"a picture")
    bare, _, signature = link.partition("?")
    assert fetch(bare)[0] in (403, 404)
    assert fetch(f"{bare.rpartition('/one/')[0]}/other.jpg?{signature}")[0] == 403
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(link, method="DELETE"))
    expired = generate_blob_sas(
        emulators.ACCOUNT,
        container.container_name,
        name,
        account_key=azurite.key,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) - timedelta(minutes=1),
    )
    assert fetch(f"{bare}?{expired}")[0] == 403


# --- many


@pytest.mark.slow
def test_hundreds_with_bounded_concurrency(
    images: BlobImages, account: BlobAccount, container: ContainerClient, proxy: FaultProxy
) -> None:
    count = 300
    texts = {f"azure-blob://{container.container_name}/{number}.jpg": b"%d" % number for number in range(count)}

    async def upload() -> None:
        for uri, data in texts.items():
            await account.write(container.container_name, uri.rpartition("/")[2], data)

    account.run(upload)
    got: dict[str, bytes | ImageError] = {}
    here: set[int] = set()

    def keep(uri: str, result: bytes | ImageError) -> None:
        got[uri] = result
        here.add(threading.get_ident())

    def keep_some(uri: str, result: bytes | ImageError) -> None:
        keep(uri, result)
        if len(got) == 100:
            raise KeyboardInterrupt

    proxy.use()
    with pytest.raises(KeyboardInterrupt):
        images.read_many(iter(texts), keep_some, concurrency=8)
    assert len(proxy.requests) <= 108
    assert proxy.most_at_once <= 8
    proxy.use()
    missing = f"azure-blob://{container.container_name}/missing.jpg"
    images.read_many([*texts, missing, "azure-blob://X/a.jpg"], keep, concurrency=8)
    assert here == {threading.get_ident()}
    assert isinstance(got.pop(missing), ImageNotFoundError)
    assert isinstance(got.pop("azure-blob://X/a.jpg"), ImageForbiddenError)
    assert got == texts
    assert proxy.most_at_once <= 8
    assert 100 <= sum("if-none-match" in request.headers for request in proxy.requests) <= 108
