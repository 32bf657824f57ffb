"""The addresses of blobs, and the links that open one for a while."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from azure.storage.blob import (
    UserDelegationKey,
)

from taxonomist.storage.azure import signed_links
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.images.blob import BlobImages
from taxonomist.storage.images.blob_address import BlobAddress, blob_address
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import (
    ConfigError,
    ImageForbiddenError,
)

ACCOUNT = "https://pictures.blob.core.windows.net"
ODD_NAME = "Bäder 1#2/a b%20c?d+e.jpg"


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


def test_links_live_for_the_time_set_and_stay_the_same_for_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = signed_links.BlobLinks(BlobAccount(ACCOUNT, key=base64.b64encode(b"key").decode()), 3600)
    seen: dict[str, datetime] = {}
    for minute in range(0, 60, 5):
        now = datetime(2026, 1, 1, 12, minute, 1, tzinfo=UTC)
        monkeypatch.setattr(signed_links.time, "time", now.timestamp)
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
    made = signed_links.BlobLinks(account, 3600)
    for _ in range(3):
        assert parse_qs(urlsplit(made.link("catalogue", "a.jpg")).query)["skoid"] == ["me"]
    assert len(asked) == 1
    later = time.time() + 86_400
    monkeypatch.setattr(signed_links.time, "time", lambda: later)
    made.link("catalogue", "a.jpg")
    assert len(asked) == 2
    account.close()
