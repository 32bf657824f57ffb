"""The addresses of blobs, and the links that open one for a while."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from taxonomist.storage.addresses import Blob, blob_of, parse_address
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.images.blob import BlobImages
from taxonomist.taxonomy.errors import (
    ImageForbiddenError,
)

ACCOUNT = "https://images.blob.core.windows.net"
ODD_NAME = "Bäder 1#2/a b%20c?d+e.jpg"


def resolve(inner: str) -> str:
    return f"/tasks/7/resolve/?fileuri={base64.b64encode(inner.encode()).decode()}"


@pytest.mark.parametrize(
    ("uri", "container", "name"),
    [
        ("azure-blob://catalogue/a.jpg", "catalogue", "a.jpg"),
        ("azure-blob://catalogue/one/two/a.jpg", "catalogue", "one/two/a.jpg"),
        ("azure-blob://catalogue/a%20b.jpg", "catalogue", "a%20b.jpg"),
        ("azure-blob://catalogue/a b#1?.jpg", "catalogue", "a b#1?.jpg"),
        ("azure-blob://catalogue/a.jpg?sv=2026&sig=abc%3D", "catalogue", "a.jpg"),
        (f"{ACCOUNT}/catalogue/one/a.jpg", "catalogue", "one/a.jpg"),
        (f"{ACCOUNT}/catalogue/a%20b.jpg?sp=r&sv=2026-10-06&sig=abc", "catalogue", "a b.jpg"),
        (f"{ACCOUNT}:443/catalogue/a.jpg", "catalogue", "a.jpg"),
        ("http://IMAGES.blob.core.windows.net/catalogue/a.jpg", "catalogue", "a.jpg"),
        (f"{ACCOUNT}/catalogue/{quote(ODD_NAME)}", "catalogue", ODD_NAME),
        (resolve("azure-blob://catalogue/a.jpg"), "catalogue", "a.jpg"),
        ("http://localhost:8080" + resolve(f"{ACCOUNT}/catalogue/a.jpg"), "catalogue", "a.jpg"),
    ],
)
def test_addresses_of_blobs(uri: str, container: str, name: str) -> None:
    assert blob_of(parse_address(uri), ACCOUNT) == Blob(container, name)


def test_the_address_of_an_account_behind_a_path() -> None:
    local = "http://127.0.0.1:10000/images"
    assert blob_of(parse_address(f"{local}/catalogue/a.jpg"), local) == Blob("catalogue", "a.jpg")
    for other in ("http://127.0.0.1:10001/images/c/a.jpg", "http://127.0.0.1:10000/others/c/a.jpg"):
        assert blob_of(parse_address(other), local) is None


@pytest.mark.parametrize(
    "uri",
    [
        "https://others.blob.core.windows.net/catalogue/a.jpg",
        "https://images.blob.core.windows.net.evil.example/catalogue/a.jpg",
        "https://images.blob.core.windows.net@evil.example/catalogue/a.jpg",
        "https://evil.example@images.blob.core.windows.net/catalogue/a.jpg",
        "https://images.blob.core.windows.net:8443/catalogue/a.jpg",
        "https://[bad/catalogue/a.jpg",
        "/data/upload/4/a.jpg",
        resolve("s3://catalogue/a.jpg"),
        "a.jpg",
        "",
    ],
)
def test_all_others_are_not_ours(uri: str) -> None:
    assert blob_of(parse_address(uri), ACCOUNT) is None


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
    with pytest.raises(ImageForbiddenError):
        images.read(uri)
    account.close()
