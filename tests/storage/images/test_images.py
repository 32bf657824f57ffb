"""Behaviour of every source of images, independent of its addresses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.images import Images
from taxonomist.storage.images.blob import BlobImages
from taxonomist.storage.images.folder import FolderImages
from taxonomist.storage.images.http import HttpImages
from taxonomist.taxonomy.errors import ImageError, ImageForbiddenError, ImageNotFoundError, ImageTooLargeError
from tests.storage.conftest import Web

LIMIT = 1000


@dataclass(frozen=True)
class Source:
    """A source of images: how to store an image, the address to read it at, and an address outside of the source."""

    images: Images
    put: Callable[[str, bytes], None]
    address: str
    outside: str

    def at(self, name: str) -> str:
        return self.address.format(name)


@pytest.fixture
def folder(tmp_path: Path) -> Source:
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")

    def put(name: str, data: bytes) -> None:
        (root / name).write_bytes(data)

    return Source(FolderImages(root, LIMIT), put, "{}", "../secret.jpg")


@pytest.fixture
def blob(azurite: emulators.Blob, blob_account: BlobAccount, tmp_path: Path) -> Source:
    mine, others = uuid4().hex, uuid4().hex

    def put(name: str, data: bytes, container: str = mine) -> None:
        with BlobServiceClient.from_connection_string(azurite.connection_string) as account:
            account.get_blob_client(container, name).upload_blob(data, overwrite=True)

    with BlobServiceClient.from_connection_string(azurite.connection_string) as account:
        account.create_container(mine)
        account.create_container(others)
    put("secret.jpg", b"secret", others)
    images = BlobImages(
        blob_account, tmp_path / "cache", max_bytes=LIMIT, cache_bytes=10**6, timeout_s=5.0, containers=[mine]
    )
    return Source(images, put, f"azure-blob://{mine}/{{}}", f"azure-blob://{others}/secret.jpg")


@pytest.fixture
def http(web: Web) -> Source:
    images = HttpImages([web.host], LIMIT, timeout_s=5.0)
    return Source(
        images,
        lambda name, data: web.route(f"/{name}", data=data),
        f"{web.url}/{{}}",
        "http://127.0.0.1:9/secret.jpg",
    )


@pytest.fixture(params=["folder", "http", pytest.param("blob", marks=pytest.mark.slow)])
def source(request: pytest.FixtureRequest) -> Source:
    made: Source = request.getfixturevalue(request.param)
    return made


def test_bytes_come_as_they_are(source: Source) -> None:
    for data in (b"\xff\xd8 image", b"x" * LIMIT):
        source.put("a.jpg", data)
        assert source.images.read(source.at("a.jpg")) == data


def test_what_is_not_there(source: Source) -> None:
    with pytest.raises(ImageNotFoundError, match=r"b\.jpg"):
        source.images.read(source.at("b.jpg"))


def test_more_than_the_limit(source: Source) -> None:
    source.put("large.jpg", b"x" * (LIMIT + 1))
    with pytest.raises(ImageTooLargeError, match="1,000"):
        source.images.read(source.at("large.jpg"))


def test_what_leads_out_of_it(source: Source) -> None:
    with pytest.raises(ImageForbiddenError):
        source.images.read(source.outside)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "data:image/png;base64,AAAA", "ftp://host/a.jpg", "a\0b.jpg"])
def test_what_is_no_address_of_it(source: Source, uri: str) -> None:
    with pytest.raises(ImageError):
        source.images.read(uri)


def test_many_threads(source: Source) -> None:
    for number in range(20):
        source.put(f"{number}.jpg", b"%d" % number)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: source.images.read(source.at(f"{number}.jpg")), range(20)))
    assert found == [b"%d" % number for number in range(20)]
