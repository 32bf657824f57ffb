"""Images in Azure Blob Storage, read from Azurite."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from azure.storage.blob import (
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
)

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.images import loading as images_loading
from taxonomist.storage.images.blob import BlobImages
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.loading import loading
from taxonomist.storage.images.memory_budget import MemoryBudget
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import (
    ImageError,
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
)
from tests.fault_proxy import FaultProxy
from tests.storage.conftest import QUICK
from tests.storage.images.test_blob_address import resolve
from tests.waiting import eventually


@pytest.fixture
def container(azurite: emulators.Blob) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service.create_container(uuid4().hex)


@pytest.fixture
def account(azurite: emulators.Blob, proxy: FaultProxy) -> Iterator[BlobAccount]:
    """Images through the proxy, which counts requests."""
    opened = BlobAccount.from_connection_string(azurite.through(proxy.port), QUICK)
    yield opened
    opened.close()


@pytest.fixture
def images(account: BlobAccount, tmp_path: Path) -> BlobImages:
    return BlobImages(account, tmp_path / "cache", max_bytes=20_000_000, cache_bytes=50_000_000, timeout_s=5.0)


@pytest.mark.slow
def test_every_form_reads_the_same_blob(images: BlobImages, account: BlobAccount, container: ContainerClient) -> None:
    name, data = "one/Bäder 1#2+3.jpg", b"an image"
    container.upload_blob(name, data)
    where = f"{container.container_name}/{quote(name)}"
    for uri in (
        f"azure-blob://{container.container_name}/{name}",
        f"{account.url}/{where}",
        f"{account.url}/{where}?sp=r&sig=expired",
        resolve(f"azure-blob://{container.container_name}/{name}"),
    ):
        assert images.owns(uri)
        assert images.read(uri) == data


@pytest.mark.slow
def test_names_are_read_as_label_studio_writes_them(
    images: BlobImages, account: BlobAccount, container: ContainerClient
) -> None:
    """Label Studio writes the address of a blob as f"azure-blob://{container}/{name}"."""
    names = [
        "chair#1.jpg",
        "chair#2.jpg",
        "chair #1.jpg",
        "chair?1.jpg",
        "chair?2.jpg",
        "a&b.jpg",
        "a%20b.jpg",
        "a b.jpg",
    ]
    names += ["a+b.jpg", "100%.jpg", "chair", "chair ", "Bäder/ä?ö#ü.jpg", "a?x=1&sig=2", "a;b=c.jpg"]
    for name in names:
        container.upload_blob(name, f"the image {name}".encode())
    uris = [f"azure-blob://{container.container_name}/{name}" for name in names]
    assert [images.read(uri).decode() for uri in uris] == [f"the image {name}" for name in names]
    assert [images.read(resolve(uri)).decode() for uri in uris] == [f"the image {name}" for name in names]
    assert len({image_id(uri) for uri in uris}) == len(names)
    encoded = f"{account.url}/{container.container_name}/{quote(names[2])}?sv=2024&sig=expired"
    assert images.read(encoded) == b"the image chair #1.jpg"


@pytest.mark.slow
def test_a_name_that_has_a_percent_sign(images: BlobImages, container: ContainerClient) -> None:
    container.upload_blob("100%.jpg", b"decoded")
    encoded = f"azure-blob://{container.container_name}/100%25.jpg"
    with pytest.raises(ImageNotFoundError, match=r'Is it "100%\.jpg"\?'):
        images.read(encoded)  # not another image in its place
    container.upload_blob("100%25.jpg", b"as it is")
    assert images.read(encoded) == b"as it is"
    assert images.read(f"azure-blob://{container.container_name}/100%.jpg") == b"decoded"


@pytest.mark.slow
def test_an_image_is_sent_once_and_then_revalidated(
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
def test_an_image_that_needs_several_requests(images: BlobImages, container: ContainerClient) -> None:
    data = bytes(range(256)) * 50_000
    container.upload_blob("large.jpg", data)
    assert images.read(f"azure-blob://{container.container_name}/large.jpg") == data


@pytest.mark.slow
def test_the_hash_of_the_blob_is_checked(images: BlobImages, container: ContainerClient) -> None:
    right, wrong = (hashlib.md5(text).digest() for text in (b"an image", b"another"))
    for name, md5 in (("right.jpg", right), ("wrong.jpg", wrong)):
        container.get_blob_client(name).upload_blob(b"an image")
        container.get_blob_client(name).set_http_headers(ContentSettings(content_md5=bytearray(md5)))
    assert images.read(f"azure-blob://{container.container_name}/right.jpg") == b"an image"
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
    with pytest.raises(ImageTooLargeError, match=r"20,000,000 bytes.*TAXONOMIST_MAX_IMAGE_BYTES"):
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
    container.upload_blob("a.jpg", b"an image")
    uri = f"azure-blob://{container.container_name}/a.jpg?sig=secret"
    with pytest.raises(ImageForbiddenError, match="TAXONOMIST_BLOB_CONTAINERS") as error:
        images.read(uri)
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_a_foreign_account_needs_an_allowed_host(images: BlobImages) -> None:
    with HttpImages([], 100, 5.0) as http:
        routed = RoutedImages(http=http, blobs=images)
        with pytest.raises(ImageForbiddenError, match="TAXONOMIST_ALLOWED_IMAGE_HOSTS"):
            routed.read("https://others.blob.core.windows.net/catalogue/a.jpg?sig=abc")


@pytest.mark.slow
def test_routed_to_blobs_and_not_cached_twice(images: BlobImages, container: ContainerClient) -> None:
    container.upload_blob("a.jpg", b"an image")
    uri = f"azure-blob://{container.container_name}/a.jpg"
    with HttpImages([], 100, 5.0) as http:
        routed = RoutedImages(http=http, blobs=images)
        assert routed.read(uri) == routed.read(resolve(uri)) == b"an image"
        assert routed.needs_no_cache(uri)
        assert not routed.needs_no_cache("https://example.org/a.jpg")


@pytest.mark.slow
def test_a_wrong_key_is_refused_without_telling_it(
    azurite: emulators.Blob, container: ContainerClient, tmp_path: Path
) -> None:
    container.upload_blob("a.jpg", b"an image")
    key = base64.b64encode(b"wrong" * 12).decode()
    account = BlobAccount(azurite.url, QUICK, account=emulators.ACCOUNT, key=key)
    images = BlobImages(account, tmp_path, max_bytes=100, cache_bytes=100)
    with pytest.raises(ImageForbiddenError, match="access is refused") as error:
        images.read(f"azure-blob://{container.container_name}/a.jpg")
    assert key not in str(error.value)
    account.close()


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
    missing = f"azure-blob://{container.container_name}/missing.jpg"

    def read(uri: str) -> bytes | ImageError:
        try:
            return images.read(uri)
        except ImageError as error:
            return error

    proxy.use()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, texts)) == list(texts.values())
        assert proxy.most_at_once <= 8
        proxy.use()
        *again, gone, forbidden = threads.map(read, [*texts, missing, "azure-blob://X/a.jpg"])
    assert again == list(texts.values())
    assert isinstance(gone, ImageNotFoundError)
    assert isinstance(forbidden, ImageForbiddenError)
    assert proxy.most_at_once <= 8
    assert sum("if-none-match" in request.headers for request in proxy.requests) == count


@pytest.mark.slow
def test_a_blob_takes_its_share_before_it_is_read(
    images: BlobImages, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    container.upload_blob("a.jpg", bytes(3_000_000))
    budget = MemoryBudget(10_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)
    with loading():
        images.read(f"azure-blob://{container.container_name}/a.jpg")
        assert budget.taken == 6_000_000
    assert budget.taken == 0


@pytest.mark.slow
def test_a_cached_image_that_waits_for_memory_delays_no_other(
    images: BlobImages, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All reads of an account share an event loop, which must not wait."""
    blobs = {"large": bytes(3_000_000), "small": b"small"}
    for name, data in blobs.items():
        container.upload_blob(name, data)
    budget = MemoryBudget(8_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)

    def read(name: str) -> bytes:
        with loading():
            return images.read(f"azure-blob://{container.container_name}/{name}")

    assert {name: read(name) for name in blobs} == blobs
    taken = budget.take(budget.total, 1)
    assert taken
    with ThreadPoolExecutor(2) as threads:
        try:
            large = threads.submit(read, "large")
            eventually("it waits for memory", lambda: budget._waiting)
            assert threads.submit(read, "small").result(5) == b"small"
            assert not large.done()
        finally:
            budget.give_back(taken)
        assert large.result(30) == blobs["large"]
    assert budget.taken == 0
