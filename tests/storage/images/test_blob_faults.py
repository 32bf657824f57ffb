"""Images in Blob Storage on bad days, each provoked on the wire: they come, or end with an error in time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.images.blob import BlobImages
from taxonomist.taxonomy.errors import ImageForbiddenError, ImageUnavailableError
from tests.fault_proxy import Fault, FaultProxy, Request
from tests.storage.blob_faults import PASSING, RETRY_POLICY, SLACK_S, TIMEOUT_S, always, once

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * 400


@pytest.fixture
def images(hurried_account: BlobAccount, tmp_path: Path) -> BlobImages:
    return BlobImages(hurried_account, tmp_path / "cache", max_bytes=10**6, cache_bytes=10**7, timeout_s=TIMEOUT_S)


@pytest.fixture
def uri(blob_account: BlobAccount) -> str:
    container = uuid4().hex
    blob_account.run(lambda: blob_account.write(container, "a.jpg", DATA))
    return f"azure-blob://{container}/a.jpg"


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
    account = BlobAccount.from_connection_string(text, RETRY_POLICY)
    images = BlobImages(account, tmp_path, max_bytes=10, cache_bytes=10, timeout_s=1.0)
    begun = time.monotonic()
    with pytest.raises(ImageUnavailableError, match="within 1 seconds"):
        images.read("azure-blob://catalogue/a.jpg")
    assert time.monotonic() - begun < 1.0 + SLACK_S
    account.close()


def test_a_withdrawn_permission_fails_at_once_and_the_copy_is_not_used(
    proxy: FaultProxy, images: BlobImages, uri: str
) -> None:
    assert images.read(uri) == DATA
    proxy.use(always(Fault(status=403)))
    with pytest.raises(ImageForbiddenError, match="access is refused"):
        images.read(uri)
    assert len(proxy.requests) == 1


def test_while_azure_is_away_the_copy_is_used_without_a_request_each_time(
    proxy: FaultProxy, images: BlobImages, uri: str
) -> None:
    assert images.read(uri) == DATA
    proxy.use(always(Fault(status=503)))
    assert images.read(uri) == DATA
    requests = len(proxy.requests)
    assert images.read(uri) == DATA
    assert len(proxy.requests) == requests


def test_many_images_among_faults(proxy: FaultProxy, hurried_account: BlobAccount, tmp_path: Path) -> None:
    images = BlobImages(hurried_account, tmp_path / "cache", max_bytes=10**6, cache_bytes=10**7, timeout_s=8.0)
    container = uuid4().hex
    names = [f"{number}.jpg" for number in range(120)]

    async def upload() -> None:
        for name in names:
            await hurried_account.write(container, name, name.encode() * 500)

    hurried_account.run(upload)
    faults = [fault for name, fault in PASSING.items() if "slow" not in name]

    def some(request: Request) -> Fault | None:
        return faults[request.number // 5 % len(faults)] if request.number % 5 == 0 else None

    proxy.use(some)
    with ThreadPoolExecutor(16) as threads:
        got = list(threads.map(images.read, [f"azure-blob://{container}/{name}" for name in names]))
    assert got == [name.encode() * 500 for name in names]
