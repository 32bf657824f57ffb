"""Moves a damaged SQLite file aside, so that its content can be made anew."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from taxonomist.storage.files import storage_errors
from taxonomist.storage.sqlite import is_damage

__all__ = ["move_aside_if_damaged"]

log = logging.getLogger(__name__)


def move_aside_if_damaged(path: Path) -> Path | None:
    """Return where a damaged file is now, with its write-ahead log beside it; None for a file that is sound or absent.

    It reads the whole file. Raises `StorageError` when the file cannot be moved.
    """
    if not path.exists() or not _is_damaged(path):
        return None
    with storage_errors(path), FileLock(path.with_name("repair.lock")):
        if not _is_damaged(path):  # another process was faster
            return None
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
        for ending in ("-wal", "-shm", ""):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.rename(aside.with_name(aside.name + ending))
    log.error("%s is damaged; it is %s now, and its content is made anew", path, aside)
    return aside


def _is_damaged(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.Error as error:
        return is_damage(error)
