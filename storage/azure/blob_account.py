"""Reads and writes the blobs of one storage account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob.aio import BlobClient

from taxonomist.storage.azure.blob_connection import PART, BlobConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy, status_of

__all__ = ["Blob", "BlobAccount", "ListedBlob"]

T = TypeVar("T")


@dataclass(frozen=True)
class Blob:
    """A blob that was read. `size` and `md5` are those of the whole blob; `md5` is None when Azure does not have it."""

    data: bytes
    etag: str
    size: int
    md5: bytes | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class ListedBlob:
    """A blob of a listing."""

    name: str
    size: int
    etag: str
    modified: float
    """Seconds since 1970."""
    metadata: Mapping[str, str]


class BlobAccount(BlobConnection):
    """The blobs of one account.

    The methods that are coroutines run on the connection's loop, through `run` or `start`. They raise `StorageError`
    when Azure does not answer in time or refuses access. Other error responses are `HttpResponseError`: 404 for a
    missing blob, 304, 409 and 412 for conditions.
    """

    # --- reading

    async def read(
        self,
        container: str,
        name: str,
        *,
        if_none_match: str | None = None,
        max_bytes: int | None = None,
        retry_policy: RetryPolicy | None = None,
        before_data: Callable[[int], Awaitable[None]] | None = None,
    ) -> Blob:
        """Return the whole blob, without its data when it is larger than `max_bytes` (see its `size`).

        `before_data` is awaited with the size before more than the first part is read.
        With `if_none_match`, raises status 304 when the ETag is still the same.
        """

        async def get() -> Blob:
            conditions: dict[str, Any] = {}
            if if_none_match:
                conditions = {"etag": if_none_match, "match_condition": MatchConditions.IfModified}
            with _closing() as hook:
                stream = await self._blob(container, name).download_blob(raw_response_hook=hook, **conditions)
                found = stream.properties
                too_large = max_bytes is not None and found.size > max_bytes
                if before_data is not None and not too_large:
                    await before_data(found.size)
                data = b"" if too_large else bytes(await stream.readall())
            md5 = found.content_settings.content_md5
            return Blob(data, found.etag, found.size, bytes(md5) if md5 else None, dict(found.metadata or {}))

        return await (retry_policy or self.retry_policy).call(get, f"read the blob {container}/{name}")

    async def parts(self, container: str, name: str, size: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a blob of `size` bytes in parts. The retry policy applies to each part.

        A blob that is replaced meanwhile gives bytes that do not match its hash, so the caller must check the hash.
        """
        for start in range(0, size, PART):
            length = min(PART, size - start)

            async def get(start: int = start, length: int = length) -> bytes:
                with _closing() as hook:
                    stream = await self._blob(container, name).download_blob(start, length, raw_response_hook=hook)
                    return bytes(await stream.readall())

            yield await self.retry_policy.call(get, f"read the blob {container}/{name}")

    async def list(self, container: str, prefix: str, *, retry_policy: RetryPolicy | None = None) -> list[ListedBlob]:
        """Return the blobs whose names start with `prefix`, ordered by name; none when the container is missing."""
        found: list[ListedBlob] = []
        token: str | None = None
        while True:

            async def page(token: str | None = token) -> tuple[list[ListedBlob], str | None]:
                blobs = self.service.get_container_client(container).list_blobs(
                    name_starts_with=prefix, include=["metadata"]
                )
                pages: Any = blobs.by_page(continuation_token=token)
                items = [_listed(item) async for item in await anext(pages)]
                return items, pages.continuation_token

            try:
                items, token = await (retry_policy or self.retry_policy).call(page, f"list {container}/{prefix}")
            except HttpResponseError as error:
                if status_of(error) == 404:
                    return []
                raise
            found += items
            if not token:
                return found

    # --- writing

    async def write(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> str:
        """Write a small blob in one request and return its ETag.

        With `if_absent`, raises status 409 when the blob exists; with `if_match`, status 412 when its ETag is
        another one. Either status may also mean that an earlier attempt, whose response was lost, has written the
        blob: the caller must find out.
        """
        conditions: dict[str, Any] = {"overwrite": not if_absent}
        if if_match is not None:
            conditions = {"overwrite": True, "etag": if_match, "match_condition": MatchConditions.IfNotModified}

        async def put() -> str:
            answer = await self._blob(container, name).upload_blob(
                BytesIO(data), length=len(data), metadata=dict(metadata or {}), **conditions
            )
            return str(answer["etag"])

        what = f"write the blob {container}/{name}"
        return await self._with_container(container, lambda: (retry_policy or self.retry_policy).call(put, what))

    async def write_file(
        self, container: str, name: str, path: Path, *, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write a file of any size in parts. The blob appears with the last part and replaces an existing one."""
        size = path.stat().st_size
        if size <= PART:
            await self.write(container, name, path.read_bytes(), metadata=metadata)
            return
        blob = self._blob(container, name)
        blocks: list[BlobBlock] = []
        with path.open("rb") as file:
            while part := file.read(PART):
                blocks.append(BlobBlock(f"{len(blocks):08d}"))
                await self._with_container(container, lambda: self._stage(blob, blocks[-1].id, part))

        async def commit() -> None:
            await blob.commit_block_list(
                blocks, metadata=dict(metadata or {}), content_settings=ContentSettings("application/octet-stream")
            )

        await self.retry_policy.call(commit, f"write the blob {container}/{name}")

    async def delete(self, container: str, name: str) -> None:
        """Delete a blob; a missing blob is no error."""
        try:
            await self.retry_policy.call(self._blob(container, name).delete_blob, f"delete the blob {container}/{name}")
        except HttpResponseError as error:
            if status_of(error) != 404:
                raise

    # --- inside

    def _blob(self, container: str, name: str) -> BlobClient:
        return self.service.get_blob_client(container, name)

    async def _stage(self, blob: BlobClient, block: str, part: bytes) -> None:
        async def put() -> None:
            await blob.stage_block(block, BytesIO(part), length=len(part))

        await self.retry_policy.call(put, f"write the blob {blob.container_name}/{blob.blob_name}")

    async def _with_container(self, container: str, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `write`, and create a missing container first. So existing containers need no right to create one."""
        try:
            return await write()
        except HttpResponseError as error:
            if status_of(error) != 404 or getattr(error, "error_code", None) != "ContainerNotFound":
                raise

        async def make() -> None:
            await self.service.create_container(container)

        try:
            await self.retry_policy.call(make, f"make the container {container}")
        except HttpResponseError as error:
            if status_of(error) != 409:  # another writer was faster
                raise
        return await write()


@contextmanager
def _closing() -> Iterator[Callable[[Any], None]]:
    """Yield a hook for downloads that closes the response when an attempt is abandoned; the SDK does not do that."""
    responses: list[Any] = []
    try:
        yield lambda response: responses.append(response.http_response.internal_response)
    except BaseException:
        for response in responses:
            response.close()
        raise


def _listed(item: Any) -> ListedBlob:
    return ListedBlob(item.name, item.size, item.etag, item.last_modified.timestamp(), dict(item.metadata or {}))
