"""The file with the version of a home."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel

from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.errors import ConfigError

VERSION = 2
"""The version of the homes that this release makes, reads and writes."""

_FILE = "home.json"
_STATE = ("journal.sqlite", "catalog.sqlite", "projects", "models")  # one of them is in every home that is in use

_MOST_BYTES = 480  # of 512 that SQLite allows for a path


class HomeVersion(BaseModel, frozen=True):
    """`migration` names the folder of the copies of a migration that is not finished."""

    version: int
    migration: str | None = None


def home_version(home: Path) -> int | None:
    """Return the version of a home, None for a folder that is no home yet. A home without a number has version 1.

    Raises `StorageError` when the file with the number cannot be read.
    """
    found = read_version(home)
    if found is not None:
        return found.version
    return 1 if any((home / name).exists() for name in _STATE) else None


def read_version(home: Path) -> HomeVersion | None:
    """Return the file's content, None without a file. Raises `StorageError` when it cannot be read."""
    return read_model(home / _FILE, HomeVersion, hint="Restore it from a copy of the home.")


def write_version(home: Path, version: HomeVersion) -> None:
    """Write the file. Raises `StorageError`."""
    write_model(home / _FILE, version)


def check_path(home: Path) -> None:
    """Raise `ConfigError` for a folder whose path has no room for the names of our files in what SQLite allows."""
    length = max(len(os.fsencode(path)) for path in (home.absolute(), os.path.realpath(home)))  # SQLite follows links
    if length > _MOST_BYTES:
        raise ConfigError(
            f"The path of the home folder has {length} bytes; SQLite allows {_MOST_BYTES} with the names of our files.",
            hint="Set TAXONOMIST_HOME, or --home, to a shorter path.",
        )
