"""Checks whether a container of the storage account is usable, for `taxonomist doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from uuid import uuid4

from azure.core.exceptions import HttpResponseError

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.retry_policy import status_of
from taxonomist.taxonomy.errors import StorageError

__all__ = ["BlobProbe", "probe", "write_and_delete"]

_PREFIX = "doctor"


@dataclass(frozen=True)
class BlobProbe:
    """The result of a check. `skew_s`: seconds that our clock is ahead of the service's; None when unknown."""

    exists: bool
    refused: bool
    skew_s: float | None


def probe(account: BlobAccount, container: str) -> BlobProbe:
    """Return the state of a container, from a request for a missing blob. Raises `StorageError` when not reachable."""

    async def ask() -> HttpResponseError:
        try:
            await account.read(container, f"{_PREFIX}/{uuid4().hex}")
        except HttpResponseError as error:
            return error
        except StorageError as error:
            if isinstance(error.__cause__, HttpResponseError) and status_of(error.__cause__) in (401, 403):
                return error.__cause__
            raise
        raise StorageError(f"The storage account {account.account} returned a blob that does not exist.")

    answer = account.run(ask)
    refused = status_of(answer) in (401, 403)
    exists = not refused and getattr(answer, "error_code", None) == "BlobNotFound"
    return BlobProbe(exists, refused, _skew(answer))


def write_and_delete(account: BlobAccount, container: str) -> bool:
    """Return whether writing and deleting a blob are allowed. Raises `StorageError` when not reachable."""
    name = f"{_PREFIX}/{uuid4().hex}"

    async def use() -> bool:
        try:
            await account.write(container, name, b"taxonomist doctor")
            await account.delete(container, name)
        except StorageError as error:
            if status_of(error.__cause__ or error) in (401, 403):
                return False
            raise
        return True

    return account.run(use)


def _skew(answer: HttpResponseError) -> float | None:
    try:
        server_time = parsedate_to_datetime(answer.response.headers["date"])  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return (datetime.now(UTC) - server_time).total_seconds()
