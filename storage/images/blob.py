"""Images in Azure Blob Storage, read with our own credentials."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import HttpResponseError

from taxonomist.storage.addresses import Address, blob_of, parse_address
from taxonomist.storage.addresses import Blob as BlobName
from taxonomist.storage.azure.blob_account import Blob, BlobAccount
from taxonomist.storage.azure.retry_policy import RetryPolicy, brief, status_of
from taxonomist.storage.catalog.image_ids import id_of_address
from taxonomist.storage.images import without_query
from taxonomist.storage.images.cache import ByteCache
from taxonomist.storage.images.loading import hold_file_in_loop, is_awaited, seconds_left
from taxonomist.storage.network.host_breaker import HOSTS
from taxonomist.taxonomy.errors import (
    ImageError,
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
    StorageError,
)

__all__ = ["BlobImages"]

log = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_S = 10.0


class BlobImages:
    """`Images` of one storage account, under the addresses of `blob_of`. A signature in an address is ignored.

    Images are cached with their ETag in `folder`, up to `cache_bytes`. Each read asks Azure whether the blob has
    changed, and only a changed blob is sent. While Azure is not reachable, cached images are returned.
    """

    def __init__(
        self,
        account: BlobAccount,
        folder: Path | str,
        *,
        max_bytes: int,
        cache_bytes: int,
        timeout_s: float = 20.0,
        containers: Collection[str] = (),
    ) -> None:
        """Read blobs in `containers` only, or in all when it is empty. `timeout_s` is the time limit per image."""
        self._account = account
        self._cache = ByteCache(folder, cache_bytes)
        self._max_bytes = max_bytes
        self._containers = frozenset(containers)
        self._retry_policy = RetryPolicy(timeout_s, timeout_s / 2, longest_pause_s=timeout_s / 2)
        self._host = urlsplit(account.url).netloc.lower()
        self._unreachable_until = 0.0

    def owns(self, uri: str) -> bool:
        """Return whether the address is a blob of our account, or an `azure-blob:` address."""
        return self._blob(uri) is not None

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        return self._account.run(lambda: self._read(uri))

    def forget(self, uri: str) -> None:
        """Delete the copy of the blob on this machine; nothing for other addresses."""
        if (blob := self._blob(uri)) is not None:
            self._cache.drop(_cache_id(blob))

    def _blob(self, uri: str) -> BlobName | None:
        return blob_of(parse_address(uri), self._account.url)

    def _allowed(self, uri: str) -> BlobName:
        blob = self._blob(uri)
        if blob is None:
            raise ImageForbiddenError(f"{without_query(uri)} is not a blob of the account {self._account.account}.")
        if not blob.is_valid:
            raise ImageForbiddenError(f'"{without_query(uri)}" is not a valid address of a blob.')
        if self._containers and blob.container not in self._containers:
            raise ImageForbiddenError(
                f"The container {blob.container} is not allowed.", hint="Add it to TAXONOMIST_BLOB_CONTAINERS."
            )
        return blob

    async def _read(self, uri: str) -> bytes:
        wanted = self._allowed(uri)
        id = _cache_id(wanted)
        etag, cached = _unpack(await asyncio.to_thread(self._cache.get, id))  # it may wait for memory
        if cached is not None and time.monotonic() < self._unreachable_until:
            return cached
        if is_awaited() and (refusal := HOSTS.refusal(self._host)):  # a job waits, as its retry policy says
            if cached is None:
                raise ImageUnavailableError(f"The image at {without_query(uri)} cannot be fetched: {refusal}.")
            return cached
        is_patient = seconds_left(self._retry_policy.total_s) > self._retry_policy.total_s / 2
        is_known = False
        try:
            blob = await self._fetch(wanted, etag)
            is_known = True
            HOSTS.answered(self._host)
        except HttpResponseError as error:
            is_known = True
            HOSTS.answered(self._host)
            if status_of(error) == 304 and cached is not None:
                return cached
            self._cache.drop(id)
            raise _refusal(uri, wanted, error) from error
        except StorageError as error:
            if status_of(error.__cause__ or error) in (401, 403):
                raise ImageForbiddenError(f"The image at {without_query(uri)} may not be read. {error}") from error
            if is_known := is_patient:
                HOSTS.failed(self._host, "no answer in time", uri)
            if cached is None:
                raise ImageUnavailableError(f"The image at {without_query(uri)} is not available. {error}") from error
            log.warning("%s The cached image is used.", error)
            self._unreachable_until = time.monotonic() + _PAUSE_AFTER_FAILURE_S
            return cached
        finally:
            if not is_known:
                HOSTS.left(self._host)
        self._check(uri, blob)
        self._cache.put(id, blob.etag.encode() + b"\n" + blob.data)
        return blob.data

    async def _fetch(self, wanted: BlobName, etag: str | None) -> Blob:
        return await self._account.read(
            wanted.container,
            wanted.name,
            if_none_match=etag,
            max_bytes=self._max_bytes,
            retry_policy=replace(self._retry_policy, total_s=seconds_left(self._retry_policy.total_s)),
            before_data=hold_file_in_loop,
        )

    def _check(self, uri: str, blob: Blob) -> None:
        where = f"The image at {without_query(uri)}"
        if blob.size > self._max_bytes:
            raise ImageTooLargeError(
                f"{where} has {blob.size:,} bytes; at most {self._max_bytes:,} are read.",
                hint="Raise TAXONOMIST_MAX_IMAGE_BYTES or shrink the image.",
            )
        if not blob.data:
            raise ImageUnavailableError(f"{where} is empty.")
        if blob.md5 is not None and hashlib.md5(blob.data, usedforsecurity=False).digest() != blob.md5:
            raise ImageUnavailableError(f"{where} does not match its Content-MD5.", hint="Upload it again.")


def _cache_id(blob: BlobName) -> str:
    return id_of_address(Address("azure-blob", blob.container, blob.name))


def _unpack(content: bytes | None) -> tuple[str | None, bytes | None]:
    if content is None:
        return None, None
    etag, _, data = content.partition(b"\n")
    return etag.decode(), data


def _refusal(uri: str, wanted: BlobName, error: HttpResponseError) -> ImageError:
    where = f"The image at {without_query(uri)}"
    if status_of(error) == 404:
        decoded = unquote(wanted.name)
        hint = f'Is it "{decoded}"? The name in an azure-blob address is taken as it is, without percent-encoding.'
        return ImageNotFoundError(
            f"{where} does not exist ({brief(error)}).", hint=hint if decoded != wanted.name else None
        )
    return ImageUnavailableError(f"{where} is not available ({brief(error)}).")
