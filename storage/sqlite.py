"""SQLite files that many threads and processes write: every commit is on the disk when it returns."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import random

from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.formats import check_format
from taxonomist.taxonomy.errors import DamagedError, StorageError

__all__ = ["Database"]

_PATIENCE_S = 30.0


class Database:
    """Connections to one file in WAL mode with `synchronous=FULL`.

    `write` is one transaction at a time, in this process by a lock and between processes by SQLite. Connections are
    opened when needed and never cross a fork.

    `schema` has statements that change nothing where they have run before, each on lines of its own with `;` at the
    end. `version` is its number, kept in the file as `user_version`; a file with a newer one is refused
    (`DamagedError`), and one without a number, of an early release, has version 1.
    """

    def __init__(self, path: Path | str, schema: str, *, version: int = 1) -> None:
        self.path = Path(path)
        self._schema = schema
        self._version = version
        self._forget()
        after_fork(self._abandon)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._ready = False

    def _abandon(self) -> None:
        # SQLite forbids the child even to close them, so they are kept alive, unused.
        _inherited.extend(self._open_ones())
        self._forget()

    def _open_ones(self) -> list[sqlite3.Connection]:
        return [*self._idle, *([self._writer] if self._writer else [])]

    def __del__(self) -> None:
        for connection in self._open_ones():
            connection.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file until the block ends."""
        with self._translated():
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._give(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed and synced when the block ends, undone when it raises."""
        with self._writing, self._translated():
            if self._writer is None:
                self._writer = self._open()
            _begin(self._writer)
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                _roll_back(self._writer)
                raise

    def close(self) -> None:
        """Close what is open. The object can be used again afterwards."""
        with self._lock, self._writing:
            for connection in self._open_ones():
                connection.close()
            self._idle.clear()
            self._writer = None

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < 8:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"Cannot make the folder {self.path.parent}: {error.strerror}.") from error
            connection = sqlite3.connect(
                self.path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        if not self._ready:
            # Changing the journal mode does not wait for a lock as other statements do.
            _patiently(connection, "PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if not self._ready:
            _begin(connection)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            check_format(self.path, found or 1, self._version)
            for statement in self._schema.split(";\n"):
                connection.execute(statement)
            if found != self._version:
                connection.execute(f"PRAGMA user_version={self._version}")
            connection.execute("COMMIT")
            self._ready = True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_storage_error(error, self.path) from error


_inherited: list[sqlite3.Connection] = []


def _begin(connection: sqlite3.Connection) -> None:
    """Start a write transaction. SQLite's own waiting backs off to 0.1 s, in which a webhook can starve behind a
    process that writes in a loop; ours asks every few milliseconds."""
    connection.execute("PRAGMA busy_timeout=0")
    try:
        _patiently(connection, "BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE_S * 1000)}")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.001 + 0.004 * random())  # noqa: S311 - spreads the waiters, guards nothing


def _roll_back(connection: sqlite3.Connection) -> None:
    # On a full disk SQLite may have rolled back by itself.
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _as_storage_error(error: sqlite3.Error, path: Path) -> StorageError:
    reason = str(error)
    if "malformed" in reason or "not a database" in reason:
        return DamagedError(
            f"{path} is damaged ({reason}).", hint="Move it aside together with its -wal and -shm files, or restore it."
        )
    if "full" in reason or "disk I/O error" in reason:
        return StorageError(
            f"Cannot write to {path} ({reason}).", hint="Make room on the disk, or check its quota and health."
        )
    if "readonly" in reason or "unable to open" in reason:
        return StorageError(f"Cannot open {path} ({reason}).", hint="Check who owns the folder and the file.")
    if "locked" in reason:
        return StorageError(f"{path} is held by another process ({reason}).", hint="Look for one that hangs.")
    return StorageError(f"SQLite failed on {path}: {reason}.")
