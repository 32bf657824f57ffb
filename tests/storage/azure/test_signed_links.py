from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from azure.storage.blob import (
    UserDelegationKey,
)

from taxonomist.storage.azure import signed_links
from taxonomist.storage.azure.blob_account import BlobAccount

ACCOUNT = "https://images.blob.core.windows.net"
ODD_NAME = "Bäder 1#2/a b%20c?d+e.jpg"


def test_links_live_for_the_time_set_and_stay_the_same_for_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = signed_links.BlobLinks(BlobAccount(ACCOUNT, key=base64.b64encode(b"key").decode()), 3600)
    seen: dict[str, datetime] = {}
    for minute in range(0, 60, 5):
        now = datetime(2026, 1, 1, 12, minute, 1, tzinfo=UTC)
        monkeypatch.setattr("taxonomist.storage.azure.signed_links.time.time", now.timestamp)
        link = made.link("catalogue", ODD_NAME)
        query = parse_qs(urlsplit(link).query)
        expiry = datetime.fromisoformat(query["se"][0])
        assert timedelta(minutes=44) < expiry - now <= timedelta(minutes=60)
        assert (query["sp"], query["sr"], query["spr"]) == (["r"], ["b"], ["https"])
        assert urlsplit(link).path == f"/catalogue/{quote(ODD_NAME)}"
        seen[link] = expiry
    assert len(seen) == 4


def test_links_by_entra_id_are_signed_with_a_key_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[datetime, datetime]] = []

    async def delegation_key(self: BlobAccount, start: datetime, expiry: datetime) -> UserDelegationKey:
        requested.append((start, expiry))
        key = UserDelegationKey()  # type: ignore[no-untyped-call]
        key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "me", "tenant", "b", "2026-06-06"
        key.signed_start, key.signed_expiry = start.isoformat(), expiry.isoformat()
        key.value = base64.b64encode(b"key").decode()
        return key

    monkeypatch.setattr(BlobAccount, "delegation_key", delegation_key)
    account = BlobAccount(ACCOUNT)
    made = signed_links.BlobLinks(account, 3600)
    for _ in range(3):
        assert parse_qs(urlsplit(made.link("catalogue", "a.jpg")).query)["skoid"] == ["me"]
    assert len(requested) == 1
    later = time.time() + 86_400
    monkeypatch.setattr("taxonomist.storage.azure.signed_links.time.time", lambda: later)
    made.link("catalogue", "a.jpg")
    assert len(requested) == 2
    account.close()
