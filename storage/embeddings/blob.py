"""Embeddings that several machines share through Azure Blob Storage."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

import numpy as np
from azure.core.exceptions import HttpResponseError
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from taxonomist.storage.arrays.forgetting import is_of
from taxonomist.storage.azure.background_refresh import BackgroundRefresh
from taxonomist.storage.azure.blob_account import BlobAccount, ListedBlob
from taxonomist.storage.azure.retry_policy import status_of
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.formats import FORMAT

__all__ = ["BlobEmbeddings", "KnownSegments", "forget_shared", "rename_shared"]

log = logging.getLogger(__name__)

_MAX_ROWS = 4096
_SMALL_BYTES = 256 * 1024
_MAX_SMALL = 64
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _Shared:
    """The state of the exchange: `segments` were read or written, and the first `rows` local rows are in Azure."""

    segments: list[str] = field(default_factory=list)
    rows: int = 0
    format: Literal[1] = 1


_SHARED = TypeAdapter(_Shared)
_Segment = tuple[list[str], NDArray[np.float16]]


class BlobEmbeddings:
    """`Embeddings` in a folder on every machine; new ones are sent to Azure and fetched from there.

    In Azure they are segments below `prefix`: files in safetensors format with ids and their vectors. A segment is
    written at once under a unique name and never changed, so writers do not conflict. Other machines see an embedding
    after one or two times `share_every_s` seconds. Only the first call waits for Azure, at most a few seconds. While
    Azure is not reachable, the folder stays in use, and new embeddings are sent later, by another process if this one
    has ended.
    """

    def __init__(
        self,
        account: BlobAccount,
        container: str,
        prefix: str,
        folder: Path | str,
        dimension: int,
        *,
        share_every_s: float = 30.0,
    ) -> None:
        """With a `share_every_s` of 0 every call shares before it returns."""
        self._account = account
        self._container = container
        self._prefix = prefix.rstrip("/") + "/"
        self._folder = Path(folder)
        self._dimension = dimension
        self._local = FolderEmbeddings(folder, dimension)
        self._every_s = share_every_s
        self._refresh = BackgroundRefresh(self._share, share_every_s, float("inf"), "The embeddings in Azure")
        total_s = min(_TIMEOUT_S, account.retry_policy.total_s)
        self._short = replace(
            account.retry_policy, total_s=total_s, attempt_s=min(total_s, account.retry_policy.attempt_s)
        )
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._timer: threading.Timer | None = None

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `Embeddings.get`."""
        found, vectors = self._local.get(ids)
        if found.all():
            return found, vectors
        self._refresh.refresh_if_due()
        return self._local.get(ids)

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """See `Embeddings.append`; on this machine's disk when it returns."""
        new = self._local.append(ids, vectors)
        if new and self._every_s == 0:
            self._refresh.refresh_now()
        elif new and (self._timer is None or not self._timer.is_alive()):
            self._timer = threading.Timer(self._every_s, self._refresh.refresh_now)
            self._timer.daemon = True
            self._timer.start()
        return new

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """See `Embeddings.snapshot`."""
        self._refresh.refresh_if_due()
        return self._local.snapshot()

    def close(self) -> None:
        """Send new embeddings and stop sharing, before the process ends. Raises nothing.

        Embeddings that cannot be sent are sent by the next process that opens this folder.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._refresh.refresh_now()
        self._refresh.close()

    def __contains__(self, id: object) -> bool:
        if id in self._local:
            return True
        self._refresh.refresh_if_due()
        return id in self._local

    def __len__(self) -> int:
        self._refresh.refresh_if_due()
        return len(self._local)

    # --- inside

    def _share(self) -> None:
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / ".share.lock"):
                blobs = self._account.run(
                    lambda: self._account.list(self._container, self._prefix, retry_policy=self._short)
                )
                shared = self._pull(self._push(self._read(blobs)), blobs)
                self._write(shared)
                self._merge([blob for blob in blobs if blob.size < _SMALL_BYTES])

    def _push(self, shared: _Shared) -> _Shared:
        ids, matrix = self._local.snapshot()
        while shared.rows < len(ids):
            end = min(len(ids), shared.rows + _MAX_ROWS)
            rows = [row for row in range(shared.rows, end) if ids[row]]  # the others were forgotten
            sent = [self._send([ids[row] for row in rows], np.array(matrix[rows]))] if rows else []
            shared = _Shared([*shared.segments, *sent], end)
            self._write(shared)
        return shared

    def _pull(self, shared: _Shared, blobs: list[ListedBlob]) -> _Shared:
        for blob in blobs:
            if blob.name in shared.segments:
                continue
            before = self._rows()
            segment = self._fetch(blob.name)
            new = self._local.append(segment[0], segment[1].astype(np.float32)) if segment else 0
            # If another process has appended meanwhile, the rows are sent again, which does no harm.
            alone = shared.rows == before and self._rows() == before + new
            shared = _Shared([*shared.segments, blob.name], before + new if alone else shared.rows)
        return shared

    def _merge(self, small: list[ListedBlob]) -> None:
        """Merge many small segments into one, then delete them; readers find their rows in the merged segment."""
        if len(small) < _MAX_SMALL:
            return
        segments = {blob.name: segment for blob in small if (segment := self._fetch(blob.name))}
        ids = [id for segment in segments.values() for id in segment[0]]
        if ids:
            self._send(ids, np.concatenate([segment[1] for segment in segments.values()]))
        for name in segments:
            self._account.run(lambda name=name: self._account.delete(self._container, name))  # type: ignore[misc]

    def _send(self, ids: Sequence[str], vectors: NDArray[np.float16]) -> str:
        return _send(self._account, self._container, self._prefix, ids, vectors)

    def _fetch(self, name: str) -> _Segment | None:
        segment = _fetch(self._account, self._container, name)
        if segment and (segment[1].shape[1:] != (self._dimension,) or not np.isfinite(segment[1]).all()):
            log.warning(
                "The embeddings in %s/%s are not finite or not of length %d.", self._container, name, self._dimension
            )
            return None
        return segment

    def _rows(self) -> int:
        """Return the number of local rows, with those that were forgotten."""
        return len(self._local.snapshot()[0])

    def _read(self, blobs: list[ListedBlob]) -> _Shared:
        try:
            shared = _SHARED.validate_json((self._folder / "shared.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return _Shared()
        if shared.rows > self._rows():  # the store was damaged and has started again
            return _Shared()
        names = {blob.name for blob in blobs}
        return _Shared([name for name in shared.segments if name in names], shared.rows)

    def _write(self, shared: _Shared) -> None:
        write_atomically(self._folder / "shared.json", _SHARED.dump_json(shared))


def rename_shared(account: BlobAccount, container: str, prefix: str, names: Mapping[str, str]) -> None:
    """Give embeddings below `prefix` in Azure other ids. Copies on machines must be deleted. Raises `StorageError`."""
    for blob in account.run(lambda: account.list(container, f"{prefix.rstrip('/')}/")):
        segment = _fetch(account, container, blob.name)
        if segment is None or names.keys().isdisjoint(segment[0]):
            continue
        ids = [names.get(id, id) for id in segment[0]]
        _send(account, container, f"{blob.name.rpartition('/')[0]}/", ids, segment[1])
        account.run(lambda name=blob.name: account.delete(container, name))  # type: ignore[misc]


def forget_shared(
    account: BlobAccount, container: str, prefix: str, ids: Collection[str], known: KnownSegments | None = None
) -> int:
    """Remove the embeddings of images below `prefix` in Azure, and return how many. Raises `StorageError`.

    A segment that has some of them is written anew without them. Copies on other machines stay until they are deleted.
    Give the same `known` to each call, so that each segment is read once, since it never changes.
    """
    removed, known = 0, KnownSegments() if known is None else known
    wanted = _hashes(ids)
    blobs = account.run(lambda: account.list(container, f"{prefix.rstrip('/')}/"))
    known.keep(blob.name for blob in blobs)
    for blob in blobs:
        if not known.may_have(blob.name, wanted):
            continue
        segment = _fetch(account, container, blob.name)
        known.add(blob.name, segment[0] if segment else [])
        if segment is None:
            continue
        kept = [row for row, id in enumerate(segment[0]) if not is_of(id, ids)]
        if len(kept) == len(segment[0]):
            continue
        if kept:
            others = [segment[0][row] for row in kept]
            known.add(_send(account, container, f"{blob.name.rpartition('/')[0]}/", others, segment[1][kept]), others)
        account.run(lambda name=blob.name: account.delete(container, name))  # type: ignore[misc]
        removed += len(segment[0]) - len(kept)
    return removed


class KnownSegments:
    """Which images the segments have that were read, as 8 bytes for each."""

    def __init__(self) -> None:
        self._images: dict[str, NDArray[np.uint64]] = {}

    def keep(self, names: Iterable[str]) -> None:
        """Drop the segments that are gone."""
        present = set(names)
        self._images = {name: images for name, images in self._images.items() if name in present}

    def add(self, name: str, ids: Iterable[str]) -> None:
        """Keep which images a segment has."""
        self._images[name] = _hashes({name for id in ids for name in (id, id.partition("#")[0])})

    def may_have(self, name: str, images: NDArray[np.uint64]) -> bool:
        """Return whether a segment may have some of the images; True for one that was not read."""
        return name not in self._images or bool(np.isin(images, self._images[name]).any())


def _hashes(ids: Collection[str]) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids)
    return np.frombuffer(b"".join(digests), np.uint64)


def _send(account: BlobAccount, container: str, prefix: str, ids: Sequence[str], vectors: NDArray[np.float16]) -> str:
    name = f"{prefix}{uuid4().hex}.safetensors"
    data = save({"vectors": vectors}, metadata={"ids": json.dumps(list(ids)), FORMAT: "1"})
    account.run(lambda: account.write(container, name, data))
    return name


def _fetch(account: BlobAccount, container: str, name: str) -> _Segment | None:
    """Return the ids and vectors of a segment; None when it is gone, or damaged (with a line in the log)."""

    async def read() -> bytes | None:
        try:
            return (await account.read(container, name)).data
        except HttpResponseError as error:
            if status_of(error) == 404:
                return None
            raise

    data = account.run(read)
    if data is None:
        return None
    try:
        vectors: NDArray[np.float16] = load(data)["vectors"]
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        if metadata.get(FORMAT, "1") != "1":
            raise ValueError(f"format {metadata[FORMAT]}, known is 1")
        ids = [str(id) for id in json.loads(metadata["ids"])]
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise ValueError(f"{len(ids)} ids for vectors of shape {vectors.shape}")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        log.warning("The embeddings in %s/%s cannot be read (%s).", container, name, error)
        return None
    return ids, vectors
