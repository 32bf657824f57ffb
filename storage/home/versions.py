"""Opens a home folder: writes the version of a new one, migrates an older one, refuses a newer one."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel

from taxonomist.storage.files import storage_errors
from taxonomist.storage.home.migrations import STEPS, VERSION
from taxonomist.storage.home.old_home import OldHome, SharedStores
from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.errors import ConfigError, DamagedError

__all__ = ["home_version", "open_home"]

log = logging.getLogger(__name__)

_FILE = "home.json"
_STATE = ("journal.sqlite", "catalog.sqlite", "projects", "models")  # one of them is in every home that is in use
_WORKER_TIMEOUT_S = 10.0  # for a worker that is just ending


class _Home(BaseModel, frozen=True):
    """`migration` names the folder of the copies of a migration that is not finished."""

    version: int
    migration: str | None = None


def home_version(home: Path) -> int | None:
    """Return the version of a home, None for a folder that is no home yet. A home without a number has version 1.

    Raises `StorageError` when the file with the number cannot be read.
    """
    found = _read(home)
    if found is not None:
        return found.version
    return 1 if any((home / name).exists() for name in _STATE) else None


def open_home(home: Path, shared: SharedStores | None = None) -> None:
    """Make the folder a home of today's version; afterwards its files may be used.

    `shared` has the stores in Azure that belong to it; they are opened only when the home is migrated.

    An older home is migrated: its databases are copied into a folder in the home first, other processes wait, and a
    migration that was killed is finished by the next call. Raises `DamagedError` for a home of a newer release,
    `ConfigError` while a worker of an earlier release uses an older home, and `StorageError`.
    """
    if (home / _FILE).exists() and _checked(home) == VERSION:
        return
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / "home.lock")
        lock.acquire()
    try:
        if (version := _checked(home)) is None:
            write_model(home / _FILE, _Home(version=VERSION))
        elif version < VERSION:
            _migrate(home, version, shared or SharedStores())
    finally:
        lock.release()


def _read(home: Path) -> _Home | None:
    return read_model(home / _FILE, _Home, hint="Restore it from a copy of the home.")


def _checked(home: Path) -> int | None:
    version = home_version(home)
    if version is not None and not 1 <= version <= VERSION:
        raise DamagedError(
            f"The home folder {home} has version {version}; this release reads versions up to {VERSION}.",
            hint="Install the release of label-studio-taxonomist that wrote it, or a newer one.",
        )
    return version


def _migrate(home: Path, version: int, shared: SharedStores) -> None:
    worker = FileLock(home / "worker.lock")
    try:
        worker.acquire(timeout=_WORKER_TIMEOUT_S)
    except Timeout:
        raise ConfigError(
            f"The home folder {home} has version {version} and a worker of an earlier release uses it.",
            hint="Stop the earlier server and worker; then this release migrates the folder.",
        ) from None
    with worker:
        for number in range(version + 1, VERSION + 1):
            log.warning("the home folder %s is migrated from version %d to %d", home, number - 1, number)
            old = OldHome(home, _begin(home, number), shared)
            old.copy_databases()
            for step in STEPS[number]:
                step(old)
            write_model(home / _FILE, _Home(version=number))
            old.remove_working_files()
            log.warning("the home folder has version %d now; its former databases are in %s", number, old.copies)


def _begin(home: Path, number: int) -> Path:
    """Return the folder for the copies of the migration to version `number`: that of a migration that was killed, else
    a new one.

    A person may go back to an earlier release and upgrade again. That is another migration, for which neither the
    copies nor the working files of the first are right.
    """
    found = _read(home)
    if found is not None and found.migration is not None:
        return home / found.migration
    names = (f"before-version-{number}{f'-{attempt}' if attempt > 1 else ''}" for attempt in count(1))
    name = next(name for name in names if not (home / name).exists())
    write_model(home / _FILE, _Home(version=number - 1, migration=name))
    return home / name
