"""Forgets rows of a store: their bytes become zeros in place, and their ids leave the index.

The file keeps its size, since the other rows keep their places: one of prepared images may be larger than memory.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from taxonomist.storage.arrays.store_index import (
    FORGETTING,
    FORGOTTEN,
    DamagedArraysError,
    packed_index,
    unpacked_index,
)
from taxonomist.storage.files import storage_errors, write_atomically

__all__ = ["StoredRows", "find_rows", "forget_rows", "is_of"]

log = logging.getLogger(__name__)

_LAYOUTS: Mapping[str, tuple[str, str, Callable[[int], int]]] = {
    "dimension": ("vectors.f16", "vectors", lambda dimension: 2 * dimension),
    "size": ("pictures.u8", "pictures", lambda size: 3 * size * size),
}
"""By the property in the header of a store: its file, the key of its checksums, and the bytes of a row."""


@dataclass(frozen=True)
class StoredRows:
    """How many rows of a store are concerned, and their bytes."""

    rows: int = 0
    bytes: int = 0

    def __add__(self, other: StoredRows) -> StoredRows:
        return StoredRows(self.rows + other.rows, self.bytes + other.bytes)


def is_of(id: str, images: Collection[str]) -> bool:
    """Return whether a row is of one of the images, or of an augmented view of it, whose id is `image#1`."""
    return id in images or id.partition("#")[0] in images


def find_rows(folder: Path, ids: Collection[str]) -> StoredRows:
    """Return what a store of embeddings or of prepared images has of these images. Raises `StorageError`."""
    with storage_errors(folder):
        try:
            store = _read(folder)
        except DamagedArraysError:  # nothing can be read from it
            store = None
    if store is None:
        return StoredRows()
    rows = sum(1 for batch in store.batches for id in batch["ids"] if is_of(id, ids))
    return StoredRows(rows, rows * store.stride)


def forget_rows(folder: Path, ids: Collection[str]) -> int:
    """Forget the rows of these images, and return how many. Raises `StorageError`.

    First the index names the rows, then they are overwritten, then the index says so. So a call that was killed is
    finished by the next one, whatever its ids, and readers see the rows no more from the first moment on. Files that
    were moved aside as damaged, which may hold any rows, are deleted.
    """
    with storage_errors(folder), FileLock(folder / ".lock"):
        for damaged in folder.glob("*.damaged-*"):
            damaged.unlink(missing_ok=True)
        try:
            store = _read(folder)
        except DamagedArraysError as damage:
            log.warning("The rows in %s are damaged (%s); they are deleted, and made again.", folder, damage)
            for name in ("index.jsonl", *(file for file, _, _ in _LAYOUTS.values())):
                (folder / name).unlink(missing_ok=True)
            return 0
        if store is None:
            return 0
        wanted = ids if isinstance(ids, set | frozenset | dict) else set(ids)
        found = 0
        for batch in store.batches:
            gone = [row for row, id in enumerate(batch["ids"]) if is_of(id, wanted)]
            found += len(gone)
            for row in gone:
                batch["ids"][row] = FORGETTING
        pending = [batch for batch in store.batches if FORGETTING in batch["ids"]]
        if not pending:
            return 0
        with (folder / store.file).open("r+b") as data:
            if found:
                for start, batch in store.placed(pending):
                    batch[store.checksum] = _checksum(data, start, batch["ids"], store.stride)
                store.write()
            for start, batch in store.placed(pending):
                for row, id in enumerate(batch["ids"]):
                    if id == FORGETTING:
                        data.seek(start + row * store.stride)
                        data.write(bytes(store.stride))
                        batch["ids"][row] = FORGOTTEN
            data.flush()
            os.fsync(data.fileno())
        store.write()
        return found


@dataclass(frozen=True)
class _Store:
    index: Path
    header: dict[str, Any]
    batches: list[dict[str, Any]]
    file: str
    checksum: str
    stride: int

    def placed(self, wanted: Collection[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield those batches with their positions in the file, in bytes."""
        start, chosen = 0, {id(batch) for batch in wanted}
        for batch in self.batches:
            if id(batch) in chosen:
                yield start, batch
            start += len(batch["ids"]) * self.stride

    def write(self) -> None:
        mode = self.index.stat().st_mode & 0o777
        write_atomically(self.index, packed_index([self.header, *self.batches]), mode=mode)


def _read(folder: Path) -> _Store | None:
    """Return the index of a store, None where there is none. Raises `DamagedArraysError`."""
    index = folder / "index.jsonl"
    try:
        lines = unpacked_index(index.read_bytes())
    except FileNotFoundError:
        return None
    if not lines:
        return None
    header, *batches = lines
    kind = next((name for name in _LAYOUTS if name in header), None)
    if kind is None:
        return None
    file, checksum, stride = _LAYOUTS[kind]
    return _Store(index, header, batches, file, checksum, stride(int(header[kind])))


def _checksum(data: Any, start: int, ids: list[str], stride: int) -> int:
    """Return the CRC-32 of a batch of rows as they are once those that are forgotten are zeros."""
    checksum = 0
    data.seek(start)
    for id in ids:
        row = data.read(stride)
        checksum = zlib.crc32(bytes(stride) if id in (FORGOTTEN, FORGETTING) else row, checksum)
    return checksum
