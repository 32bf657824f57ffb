"""Links with which a browser may read a blob for a limited time (shared access signatures, SAS)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas

from taxonomist.storage.azure.blob_account import BlobAccount

__all__ = ["BlobLinks"]

_CLOCK_SKEW = timedelta(minutes=5)
_KEY_LIFE = timedelta(hours=24)


class BlobLinks:
    """Signs links with the account's key, or with a user delegation key of Entra ID, which is valid for a day.

    A link is valid for three quarters of `life_s` seconds at least and for `life_s` at most. The same link is returned
    for a quarter of that time, so that browsers can cache the image.
    """

    def __init__(self, account: BlobAccount, life_s: float) -> None:
        self._account = account
        self._life_s = life_s
        self._delegated: tuple[datetime, UserDelegationKey] | None = None

    @property
    def origin(self) -> str:
        """The scheme and host of all links."""
        parts = urlsplit(self._account.url)
        return f"{parts.scheme}://{parts.netloc}"

    def link(self, container: str, name: str) -> str:
        """Return an address that allows reading the blob and nothing else. Raises `StorageError`."""
        step = self._life_s / 4
        created = datetime.fromtimestamp(time.time() // step * step, UTC)
        expiry = created + timedelta(seconds=self._life_s)
        signer: dict[str, Any] = {"account_key": self._account.key}
        if self._account.key is None:
            signer = {"user_delegation_key": self._key(until=expiry)}
        signature = generate_blob_sas(
            account_name=self._account.account,
            container_name=container,
            blob_name=name,
            permission=BlobSasPermissions(read=True),
            start=created - _CLOCK_SKEW,
            expiry=expiry,
            protocol="https" if self._account.url.startswith("https:") else None,
            **signer,
        )
        return f"{self._account.address(container, name)}?{signature}"

    def _key(self, until: datetime) -> UserDelegationKey:
        if self._delegated is None or self._delegated[0] < until:
            now = datetime.now(UTC)
            expiry = max(now + _KEY_LIFE, until)
            self._delegated = (expiry, self._account.run(lambda: self._account.delegation_key(now, expiry)))
        return self._delegated[1]
