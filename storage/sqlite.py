"""SQLite files that several threads and processes write."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import random

from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.formats import check_format
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError, StorageError

__all__ = ["Database", "as_storage_error", "concerns_all", "damage_note", "is_damage"]

_TIMEOUT_S = 30.0
_SLICE = 500  # rows of a write transaction of `write_rows`
_PAUSE_S = 0.005  # after it, so that those of others come between
_LOG_PAGES = 200  # of 4 kB; SQLite's 1,000 let a commit wait 6 ms while they are written back, now it is 2 ms
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """Connections to one file in WAL mode. A commit is on the disk when it returns.

    There is one write transaction at a time: a lock orders the threads of a process, SQLite the processes. Connections
    are opened at first use, and a forked process opens its own.

    `schema` contains statements that can be repeated without effect, each on its own lines with `;` at the end.
    `version` is its number, stored in the file as `user_version`. A file with a newer version is refused with
    `DamagedError`; a file without a number was written by an early release and has version 1.

    With `durable=False` a commit survives the end of the process, but does not wait for the disk: a loss of power may
    cost the last commits, and never damages the file.

    `check_new` is called before a file that does not exist is made, and may raise. `hint_of_damage` says what to do
    with a damaged one.
    """

    def __init__(
        self,
        path: Path | str,
        schema: str,
        *,
        version: int = 1,
        durable: bool = True,
        check_new: Callable[[], None] = lambda: None,
        hint_of_damage: str = "Restore it, or move it aside together with its -wal and -shm files.",
    ) -> None:
        self.path = Path(path)
        self._check_new = check_new
        self._hint_of_damage = hint_of_damage
        self._schema = schema
        self._version = version
        self._synchronous = "FULL" if durable else "NORMAL"
        self._forget()
        after_fork(self._abandon)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._ready = False
        self._file: int | None = None  # the inode of the file that the connections are to
        self._generation = self._writer_generation = 0  # grows with each other file

    def _abandon(self) -> None:
        # A child process must not even close the connections of its parent, so they are kept open and unused.
        _inherited.extend(self._connections())
        self._forget()

    def _connections(self) -> list[sqlite3.Connection]:
        return [*self._idle, *([self._writer] if self._writer else [])]

    def __del__(self) -> None:
        for connection in self._connections():
            connection.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state of the file until the block ends."""
        with self._storage_errors():
            self._leave_moved_file()
            generation, connection = self._generation, self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._give(connection, generation)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection with a transaction: committed and synced at the end, rolled back on errors."""
        with self._writing, self._storage_errors():
            self._leave_moved_file()
            if self._writer is not None and self._writer_generation != self._generation:
                self._writer.close()
                self._writer = None
            if self._writer is None:
                self._writer_generation, self._writer = self._generation, self._open()
            _begin(self._writer)
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                _roll_back(self._writer)
                raise

    def write_rows(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement with each of the rows, in short write transactions; an error leaves those before it."""
        for start in range(0, len(rows), _SLICE):
            with self.write() as connection:
                connection.executemany(statement, rows[start : start + _SLICE])
            time.sleep(_PAUSE_S)

    def erase_deleted(self, *, rebuild: bool = False) -> None:
        """Remove what was deleted from the files on the disk, too.

        Deleted rows are overwritten when they are deleted, but the write-ahead log has them until it is written back
        and cut, which is left to the next call while others read. With `rebuild` the file is written anew, since
        earlier releases did not overwrite deleted rows; this waits for readers.
        """
        with self._writing, self._storage_errors():
            if self._writer is None:
                self._writer = self._open()
            if rebuild:
                _retry_while_locked(self._writer, "VACUUM")
            until = time.monotonic() + (_TIMEOUT_S if rebuild else 0.0)
            self._writer.execute("PRAGMA busy_timeout=0")  # a waiting checkpoint would hold up webhooks
            try:
                while self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() >= until:
                        return
                    time.sleep(0.02)
            finally:
                self._writer.execute(f"PRAGMA busy_timeout={int(_TIMEOUT_S * 1000)}")

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        with self._lock, self._writing:
            for connection in self._connections():
                connection.close()
            self._idle.clear()
            self._writer = None

    def _leave_moved_file(self) -> None:
        """Open new connections where another file is at the path: a damaged one was moved aside, and is made anew."""
        if self._file is None:
            return
        try:
            if self.path.stat().st_ino == self._file:
                return
        except OSError:  # it is gone
            pass
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._generation += 1
            self._ready, self._file = False, None

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give(self, connection: sqlite3.Connection, generation: int) -> None:
        with self._lock:
            if len(self._idle) < 8 and generation == self._generation:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageError(f"Cannot create the folder {self.path.parent}: {error.strerror}.") from error
            if not self.path.exists():
                self._check_new()
            connection = sqlite3.connect(
                self.path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            try:
                self._prepare(connection)
                self._file = self.path.stat().st_ino
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        if not self._ready:
            # Unlike other statements, changing the journal mode does not wait for a lock.
            _retry_while_locked(connection, "PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        connection.execute("PRAGMA secure_delete=ON")  # rows that are deleted or replaced are overwritten with zeros
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
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error):
                _note_damage(self.path)
            raise as_storage_error(error, self.path, self._hint_of_damage) from error


def damage_note(path: Path) -> Path:
    """Return the file that says that a process found a database damaged while it was used."""
    return path.with_name(f"{path.name}.damage-seen")


def _note_damage(path: Path) -> None:
    with suppress(OSError):  # the next one to find it notes it
        damage_note(path).touch(mode=0o600)


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is damaged; one that was emptied has no tables."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _DAMAGED or "no such table" in str(error)


_inherited: list[sqlite3.Connection] = []


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a write transaction, with an attempt every few milliseconds.

    SQLite's own busy handler waits up to 0.1 s between attempts, so a webhook could starve while another process writes
    in a loop.
    """
    connection.execute("PRAGMA busy_timeout=0")
    try:
        _retry_while_locked(connection, "BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(_TIMEOUT_S * 1000)}")


def _retry_while_locked(connection: sqlite3.Connection, statement: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.001 + 0.004 * random())  # noqa: S311 - not used for security


def _roll_back(connection: sqlite3.Connection) -> None:
    # On a full disk SQLite may have rolled back already.
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


_OF_THE_FILE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOTADB,
}


def concerns_all(error: BaseException) -> bool:
    """Return whether an error is of the whole store, such as a full disk, and not of the one record being processed."""
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _OF_THE_FILE
    if isinstance(error, StorageError):
        if isinstance(error.__cause__, sqlite3.Error):
            return concerns_all(error.__cause__)
        return not isinstance(error, NotFoundError | ConflictError | DamagedError)
    return isinstance(error, OSError)


def as_storage_error(error: sqlite3.Error, path: Path, hint_of_damage: str | None = None) -> StorageError:
    """Return the `StorageError` for an error of SQLite on the file at `path`."""
    reason = str(error)
    if "malformed" in reason or "not a database" in reason:
        return DamagedError(f"{path} is damaged ({reason}).", hint=hint_of_damage)
    if "full" in reason or "disk I/O error" in reason:
        return StorageError(
            f"Cannot write to {path} ({reason}).", hint="Make room on the disk, or check its quota and health."
        )
    if "readonly" in reason or "unable to open" in reason:
        return StorageError(
            f"Cannot open {path} ({reason}).", hint="Check the owner and the permissions of the folder and the file."
        )
    if "locked" in reason:
        return StorageError(f"{path} is locked by another process ({reason}).", hint="Stop a process that hangs.")
    return StorageError(f"SQLite failed on {path}: {reason}.")
