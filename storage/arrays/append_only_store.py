"""A store of arrays of one shape, each under an id: memory-mapped, only appended to."""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from taxonomist.storage.arrays.store_index import (
    FORGETTING,
    FORGOTTEN,
    ArrayLayout,
    Batch,
    DamagedArraysError,
    StoreIndex,
    renamed_index,
)
from taxonomist.storage.files import storage_errors, sync_folder, write_atomically
from taxonomist.storage.fork_safety import after_fork
from taxonomist.taxonomy.errors import StorageError

__all__ = ["AppendOnlyStore", "ArrayLayout", "rename_rows"]

log = logging.getLogger(__name__)

Scalar = TypeVar("Scalar", bound=np.generic)


class AppendOnlyStore(Generic[Scalar]):
    """Rows in a folder: one file with the bytes of all rows, and `index.jsonl` with the ids of each batch of rows.

    A batch exists once its line in the index is complete; its rows are on the disk before. So a killed process leaves
    at most a tail that no reader sees and that the next append overwrites. Every other mismatch of a checksum is
    damage: the files are moved aside, the store starts empty, and its content is made again when it is needed.
    Rows can be forgotten, see `forgetting`: they stay in their places as zeros, without an id.

    Threads and processes may share a store. Every method raises `StorageError` when it cannot be read or written.
    """

    def __init__(self, folder: Path | str, layout: ArrayLayout) -> None:
        self._folder = Path(folder)
        self._layout = layout
        self._stride = np.dtype(layout.dtype).itemsize * math.prod(layout.shape)
        self._data = self._folder / layout.file
        self._index = self._folder / "index.jsonl"
        self._make_mutex()
        after_fork(self._make_mutex)
        self._lock = FileLock(self._folder / ".lock")
        self._forget()

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[Scalar]]:
        """Return which of the n ids are stored, shape (n,), and their rows, shape (n, ...), zeros for the others."""
        with self._mutex:
            rows = [self._rows.get(id, -1) for id in ids]
            if -1 in rows or not self._current():
                self._refresh()
                rows = [self._rows.get(id, -1) for id in ids]
            matrix = self._matrix
        at = np.array(rows, dtype=np.int64)
        found = at >= 0
        result: NDArray[Scalar] = np.zeros((len(rows), *self._layout.shape), dtype=matrix.dtype)
        result[found] = matrix[at[found]]
        return found, result

    def append(self, ids: Sequence[str], rows: NDArray[Scalar]) -> int:
        """Store the rows (n, ...) of the new ids on the disk. Return the number of new ids.

        Raises `StorageError` and stores nothing when the rows have another shape or type.
        """
        self.check(ids, rows)
        if rows.dtype != self._layout.dtype:
            raise StorageError(f"The {self._layout.what} must be {self._layout.dtype}, not {rows.dtype}.")
        with self._mutex, self._exclusively():
            self._refresh(locked=True)
            new = {id: row for row, id in reversed(list(enumerate(ids))) if id not in self._rows}
            if not new:
                return 0
            order = sorted(new.values())
            self._write([ids[row] for row in order], np.ascontiguousarray(rows[order]))
            self._refresh(locked=True)
            return len(order)

    def check(self, ids: Sequence[str], rows: NDArray[Any]) -> None:
        """Raise `StorageError` unless there is one row of the right shape for each id."""
        expected = (len(ids), *self._layout.shape)
        if rows.shape != expected:
            raise StorageError(f"{len(ids)} ids need {self._layout.what} of shape {expected}, not {rows.shape}.")

    def snapshot(self) -> tuple[list[str], NDArray[Scalar]]:
        """Return all n ids and their rows (n, ...), memory-mapped and read-only, valid while the store grows.

        The id of a row that was forgotten is "".
        """
        with self._mutex:
            self._refresh()
            return list(self._ids), self._matrix

    def __contains__(self, id: object) -> bool:
        with self._mutex:
            self._refresh()
            return id in self._rows

    def __len__(self) -> int:
        """Return the number of rows, without those that were forgotten."""
        with self._mutex:
            self._refresh()
            return len(self._rows)

    # --- inside

    def _make_mutex(self) -> None:
        self._mutex = threading.RLock()

    def _forget(self) -> None:
        self._state = StoreIndex(self._layout)
        self._inode = 0
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._matrix: NDArray[Scalar] = np.zeros((0, *self._layout.shape), dtype=self._layout.dtype)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _current(self) -> bool:
        try:
            stat = self._index.stat()
        except OSError:
            return self._inode == 0
        return (stat.st_ino, stat.st_size) == (self._inode, self._state.end)

    def _refresh(self, *, locked: bool = False) -> None:
        """Read the batches appended since the last refresh; after damage, start with an empty store."""
        if self._current():
            return
        try:
            with storage_errors(self._index):
                self._read_on()
        except DamagedArraysError:
            self._forget()
            if locked:
                self._read_all()
                return
            with self._exclusively():
                # Without the lock, the damage may have been a replacement in progress.
                self._refresh(locked=True)

    def _read_all(self) -> None:
        """Read the files from their beginning, since they may have been replaced; move them aside when damaged."""
        try:
            with storage_errors(self._index):
                self._read_on()
        except DamagedArraysError as damage:
            self._forget()
            self._move_aside(damage)

    def _read_on(self) -> None:
        try:
            file = self._index.open("rb")
        except FileNotFoundError:
            self._forget()
            return
        with file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode or os.fstat(file.fileno()).st_size < self._state.end:
                self._forget()
            file.seek(self._state.end)
            batches = self._state.read_on(file.read())
        self._inode = inode
        if batches:
            self._take(batches)

    def _take(self, batches: Sequence[Batch]) -> None:
        rows = len(self._ids) + sum(len(batch.ids) for batch in batches)
        size = self._data.stat().st_size if self._data.exists() else 0
        if size < rows * self._stride:
            raise DamagedArraysError(f"{self._data.name} has {size} bytes for {rows} rows of {self._stride}")
        matrix = np.memmap(self._data, dtype=self._layout.dtype, mode="r", shape=(rows, *self._layout.shape))
        start = len(self._ids)
        for batch in batches:
            if self._layout.check_all or batch is batches[-1]:
                batch.check(matrix[start : start + len(batch.ids)])
            start += len(batch.ids)
        for batch in batches:
            self._rows.update(zip(batch.ids, range(len(self._ids), rows), strict=False))
            self._ids.extend(FORGOTTEN if id == FORGETTING else id for id in batch.ids)
        for gone in (FORGOTTEN, FORGETTING):
            self._rows.pop(gone, None)
        self._matrix = matrix

    def _write(self, ids: Sequence[str], rows: NDArray[Scalar]) -> None:
        start, end = len(self._ids) * self._stride, self._state.end
        line = self._state.line(ids, rows)
        try:
            with storage_errors(self._folder):
                _put(self._data, start, rows.data)
                _put(self._index, end, line)
                sync_folder(self._folder)
        except StorageError:
            # Free the space. If that fails, a tail without a line in the index stays, which does no harm.
            with suppress(OSError):
                os.truncate(self._index, end)
                os.truncate(self._data, start)
            raise

    def _move_aside(self, damage: DamagedArraysError) -> None:
        suffix = f".damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        log.warning(
            "The %s in %s are damaged (%s). They were moved aside as *%s, which may be deleted, and are made again.",
            self._layout.what,
            self._folder,
            damage,
            suffix,
        )
        with storage_errors(self._folder):
            # The index is moved first: without it the store is empty, whatever happens next.
            for path in (self._index, self._data):
                if path.exists():
                    path.rename(path.with_name(path.name + suffix))
            sync_folder(self._folder)


def rename_rows(folder: Path, names: Mapping[str, str]) -> int:
    """Give the rows of a store, whatever they are, other ids, and return how many. The rows themselves stay.

    A new name that another row has already gets a "~" at its end, so that it hides no row. A damaged index is moved
    aside, as `AppendOnlyStore` does. Raises `StorageError`.
    """
    index = folder / "index.jsonl"
    with storage_errors(folder), FileLock(folder / ".lock"):
        if not index.exists():
            return 0
        try:
            data, renamed = renamed_index(index.read_bytes(), names)
        except DamagedArraysError as damage:
            log.warning("The index %s is damaged (%s) and is moved aside; its rows are made again.", index, damage)
            index.rename(index.with_name(f"{index.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"))
            return 0
        if renamed:
            write_atomically(index, data, mode=index.stat().st_mode & 0o777)
        return renamed


def _put(path: Path, offset: int, data: bytes | memoryview) -> None:
    """Truncate the file at `offset`, append `data`, and wait for the disk."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
