"""Files that appear whole or not at all, and what to tell a person when the disk says no."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taxonomist.taxonomy.errors import StorageError

__all__ = ["storage_errors", "sync_file", "sync_folder", "write_whole"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raises `StorageError` with the fix in place of any `OSError`."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        reason = error.strerror or str(error)
        if error.errno in _NO_ROOM:
            raise StorageError(f"No room to write {where} ({reason}).", hint="Make room on the disk.") from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StorageError(f"Not allowed to use {where} ({reason}).", hint="Check who owns it.") from error
        raise StorageError(f"Cannot use {where} ({reason}).") from error


def write_whole(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Put `data` at `path` in one step: a reader sees the old bytes or the new ones. Raises `OSError`."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the bytes of the file are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    if os.name == "nt":  # Windows cannot open folders and needs no such step
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
