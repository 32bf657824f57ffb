"""Keeps what works on a project apart from the command that forgets it.

Work of any kind shares a lock of the project, and forgetting needs it alone. The lock of a process that was killed is
free at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import ReadWriteLock, Timeout

from taxonomist.storage.files import storage_errors
from taxonomist.storage.sqlite import as_storage_error
from taxonomist.taxonomy.errors import ConflictError

_LONGEST = 12  # bytes of a project's name in that of its lock
_WAIT_S = 5.0  # the worker decides labels each second, and holds the lock meanwhile


@contextmanager
def working_on(home: Path, project: str, *, waits: bool = False) -> Iterator[None]:
    """Work on a project within the block. Raises `ConflictError` while it is being forgotten.

    With `waits`, a command that waits for other work, and may yet be refused, is waited for.
    """
    with _errors_of_disk(home, project):
        lock = _lock(home, project)
        try:
            lock.acquire_read(timeout=_WAIT_S + 1 if waits else 0)
        except (Timeout, FileNotFoundError):  # the latter when the file of the lock was removed with the project
            raise ConflictError(f"Project {project} is being forgotten.", hint="Wait until the command ends.") from None
    try:
        yield
    finally:
        lock.release()
        lock.close()


@contextmanager
def alone_on(home: Path, project: str) -> Iterator[None]:
    """Forget a project within the block. Raises `ConflictError` while something works on it."""
    with _errors_of_disk(home, project):
        lock = _lock(home, project)
        try:
            lock.acquire_write(timeout=_WAIT_S)
        except (Timeout, FileNotFoundError):
            raise ConflictError(
                f"A job or a command of project {project} is running.", hint="Wait until it ends, or stop it."
            ) from None
    try:
        yield
        _path(home, project).unlink(missing_ok=True)
    finally:
        lock.release()
        lock.close()


def _lock(home: Path, project: str) -> ReadWriteLock:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ReadWriteLock(_path(home, project), is_singleton=False)


@contextmanager
def _errors_of_disk(home: Path, project: str) -> Iterator[None]:
    """Raise a `StorageError` for a disk that is full or read-only: the lock is a file of SQLite's."""
    path = _path(home, project)
    try:
        with storage_errors(path):
            yield
    except sqlite3.Error as error:
        raise as_storage_error(error, path) from error


def _path(home: Path, project: str) -> Path:
    """Return the file of the lock. A long name is shortened: SQLite allows 512 bytes for a path with the home's."""
    name = project if len(project.encode()) <= _LONGEST else hashlib.sha256(project.encode()).hexdigest()[:_LONGEST]
    return home / f"use-{name}.lock"
