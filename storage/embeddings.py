"""Embeddings of one backbone version: half precision, memory-mapped, only ever appended to."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from storage.embedding_index import Batch, Index, IndexDamaged
from storage.files import storage_errors, sync_folder
from storage.forks import after_fork
from taxonomy.errors import StorageError

__all__ = ["EmbeddingStore", "Embeddings"]

log = logging.getLogger(__name__)


class Embeddings(Protocol):
    """Where embeddings are kept, each once. Safe to share between threads and processes.

    Every method raises `StorageError` when the store cannot be read or written.
    """

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which of the n ids are there (n,), and their embeddings (n, d), zeros where there is none."""
        ...

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """Keep the vectors (n, d) of the ids that are new; on the disk when it returns. Returns how many were new."""
        ...

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """All ids (n) and their embeddings (n, d), read only."""
        ...

    def __contains__(self, id: object) -> bool: ...

    def __len__(self) -> int: ...


class EmbeddingStore:
    """`Embeddings` in a folder: `vectors.f16`, rows of float16, and `index.jsonl`, the ids of each batch of rows.

    A batch counts once its line in the index is whole; the vectors are on the disk before. So a process that is killed
    leaves at most a tail that nobody sees, and that the next append overwrites. Anything else that does not match its
    checksum is damage: the files are moved aside, the store starts empty, and what is needed is embedded again.
    """

    def __init__(self, folder: Path | str, dimension: int) -> None:
        self._folder = Path(folder)
        self._dimension = dimension
        self._stride = 2 * dimension
        self._vectors = self._folder / "vectors.f16"
        self._index = self._folder / "index.jsonl"
        self._unlock()
        after_fork(self._unlock)
        self._lock = FileLock(self._folder / ".lock")
        self._forget()

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `Embeddings.get`."""
        with self._mutex:
            rows = [self._rows.get(id, -1) for id in ids]
            if -1 in rows or not self._current():
                self._refresh()
                rows = [self._rows.get(id, -1) for id in ids]
            matrix = self._matrix
        at = np.array(rows, dtype=np.int64)
        found = at >= 0
        result = np.zeros((len(rows), self._dimension), dtype=np.float32)
        result[found] = matrix[at[found]]
        return found, result

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """See `Embeddings.append`. Raises `StorageError` and keeps nothing when a vector has another length or is not
        finite in half precision."""
        half = self._checked(ids, vectors)
        with self._mutex, self._exclusively():
            self._refresh(locked=True)
            new = {id: row for row, id in reversed(list(enumerate(ids))) if id not in self._rows}
            if not new:
                return 0
            order = sorted(new.values())
            self._write([ids[row] for row in order], half[order])
            self._refresh(locked=True)
            return len(order)

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """See `Embeddings.snapshot`. The matrix stays valid while the store grows."""
        with self._mutex:
            self._refresh()
            return list(self._ids), self._matrix

    def __contains__(self, id: object) -> bool:
        with self._mutex:
            if id not in self._rows:
                self._refresh()
            return id in self._rows

    def __len__(self) -> int:
        with self._mutex:
            self._refresh()
            return len(self._ids)

    # --- inside

    def _unlock(self) -> None:
        self._mutex = threading.RLock()

    def _forget(self) -> None:
        self._state = Index(self._dimension)
        self._inode = 0
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._matrix: NDArray[np.float16] = np.zeros((0, self._dimension), dtype=np.float16)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _checked(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float16]:
        if vectors.shape != (len(ids), self._dimension):
            raise StorageError(
                f"{len(ids)} ids need vectors of shape ({len(ids)}, {self._dimension}), not {vectors.shape}."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            half = vectors.astype("<f2")
        bad = np.flatnonzero(~np.isfinite(half).all(axis=1))
        if bad.size:
            raise StorageError(
                f"The embedding of {ids[int(bad[0])]} is not finite in half precision.",
                hint="The backbone gives NaN or values beyond 65,504; export it again.",
            )
        return half

    def _current(self) -> bool:
        try:
            stat = self._index.stat()
        except OSError:
            return self._inode == 0
        return (stat.st_ino, stat.st_size) == (self._inode, self._state.end)

    def _refresh(self, *, locked: bool = False) -> None:
        """Take up what was appended since; after damage, start again with nothing."""
        if self._current():
            return
        try:
            with storage_errors(self._index):
                self._read_on()
        except IndexDamaged as damage:
            self._forget()
            if locked:
                self._move_aside(damage)
                return
            with self._exclusively():
                # Seen without the lock it may have been a replacement half way.
                self._refresh(locked=True)

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
        size = self._vectors.stat().st_size if self._vectors.exists() else 0
        if size < rows * self._stride:
            raise IndexDamaged(f"{self._vectors.name} has {size} bytes for {rows} rows of {self._stride}")
        matrix = np.memmap(self._vectors, dtype="<f2", mode="r", shape=(rows, self._dimension))
        start = len(self._ids)
        for batch in batches:
            batch.check(matrix[start : start + len(batch.ids)])
            start += len(batch.ids)
        for batch in batches:
            self._rows.update(zip(batch.ids, range(len(self._ids), rows), strict=False))
            self._ids.extend(batch.ids)
        self._matrix = matrix

    def _write(self, ids: Sequence[str], half: NDArray[np.float16]) -> None:
        start, end = len(self._ids) * self._stride, self._state.end
        line = self._state.line(ids, half)
        try:
            with storage_errors(self._folder):
                _put(self._vectors, start, half.tobytes())
                _put(self._index, end, line)
                sync_folder(self._folder)
        except StorageError:
            # Give the room back; what cannot be cut off is a tail without a line.
            with suppress(OSError):
                os.truncate(self._index, end)
                os.truncate(self._vectors, start)
            raise

    def _move_aside(self, damage: IndexDamaged) -> None:
        suffix = f".damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        log.warning(
            "The embeddings in %s are damaged (%s); moved aside as *%s, images are embedded again when needed.",
            self._folder,
            damage,
            suffix,
        )
        with storage_errors(self._folder):
            # The index goes first: without it there are no embeddings, whatever happens now.
            for path in (self._index, self._vectors):
                if path.exists():
                    path.rename(path.with_name(path.name + suffix))
            sync_folder(self._folder)


def _put(path: Path, offset: int, data: bytes) -> None:
    """Write `data` at `offset`, cut off what is behind it, and wait for the disk."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
