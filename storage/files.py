"""Atomic writes of files, and `OSError`s of the disk raised as `StorageError`s with a hint."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taxonomist.taxonomy.errors import StorageError

__all__ = [
    "disk_error",
    "lacks_room",
    "storage_errors",
    "sync_file",
    "sync_folder",
    "write_atomically",
    "write_if_absent",
]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_OF_DISK = {*_NO_ROOM, *_REFUSED, errno.EIO, errno.ENAMETOOLONG}
_NO_ROOM_OF_SQLITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_NO_ROOM_TEXTS = ("No space left on device", "file write failed")  # of libraries that are not written in Python


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise a `StorageError` with a hint in place of any `OSError` of the block."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path) from error


def disk_error(error: BaseException) -> StorageError | None:
    """Return the `StorageError` for an `OSError` of the disk that no block of `storage_errors` was around; None for
    another error, such as one of the network. It is for the edges: the command line and the server."""
    if not isinstance(error, OSError) or error.errno not in _OF_DISK:
        return None
    return _explained(error, "a file")


def lacks_room(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that the disk is full or takes no writes now."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {*_NO_ROOM, errno.EROFS}:
            return True
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", None) or 0
            if code in _NO_ROOM_OF_SQLITE or code & 0xFF == sqlite3.SQLITE_READONLY:
                return True
        if any(text in str(error) for text in _NO_ROOM_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explained(error: OSError, place: object) -> StorageError:
    """Return the error in words; `place` is where it was met, for an error that names no file."""
    reason = error.strerror or str(error)
    file = error.filename2 or error.filename or place  # the second one is written, as by a copy
    if error.errno in _NO_ROOM:
        return StorageError(f"No room to write {file} ({reason}).", hint="Make room on the disk.")
    if error.errno in _REFUSED:
        return StorageError(f"No permission to use {file} ({reason}).", hint="Check its owner and permissions.")
    return StorageError(f"Cannot use {file} ({reason}).")


def write_atomically(path: Path, data: bytes, *, sync: bool = True, mode: int = 0o600) -> None:
    """Write `data` to `path` in one step: a reader sees the old bytes or the new bytes.

    With `sync` they are on the disk when the function returns. `mode` is the mode of the file; by default only its
    owner may read it. Raises `OSError`.
    """
    with _written_beside(path, data, sync=sync) as new:
        if mode != 0o600:
            new.chmod(mode)
        new.replace(path)
    if sync:
        sync_folder(path.parent)


def write_if_absent(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step unless the file exists; of two concurrent processes, one wins.

    Only the owner may read the file. Raises `OSError`.
    """
    if path.exists():
        return
    with _written_beside(path, data, sync=True) as new:
        with suppress(FileExistsError):
            os.link(new, path)  # unlike a rename, this never replaces a file that another process has just created
        new.unlink()
    sync_folder(path.parent)


@contextmanager
def _written_beside(path: Path, data: bytes, *, sync: bool) -> Iterator[Path]:
    """Yield a new file with `data` in the same folder, readable by its owner only; deleted when the block raises."""
    try:
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # that of the new file is another one each time
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        yield Path(name)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def sync_file(path: Path) -> None:
    """Wait until the bytes of the file are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    if os.name == "nt":  # Windows cannot open folders and does not need this step
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
