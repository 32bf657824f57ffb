"""Opens a home folder: writes the version of a new one, migrates an older one, refuses a newer one."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from taxonomist.storage.files import storage_errors
from taxonomist.storage.home.migrations import STEPS
from taxonomist.storage.home.old_home import OldHome, SharedStores
from taxonomist.storage.home.version_file import (
    VERSION,
    HomeVersion,
    check_path,
    home_version,
    read_version,
    write_version,
)
from taxonomist.taxonomy.errors import ConfigError, DamagedError

log = logging.getLogger(__name__)

_WORKER_TIMEOUT_S = 10.0  # for a worker that is just ending


def open_home(home: Path, shared: SharedStores | None = None) -> None:
    """Make the folder a home of today's version; afterwards its files may be used.

    `shared` has the stores in Azure that belong to it; they are opened only when the home is migrated.

    An older home is migrated: its databases are copied into a folder in the home first, other processes wait, and a
    migration that was killed is finished by the next call. Raises `DamagedError` for a home of a newer release,
    `ConfigError` while a worker of an earlier release uses an older home, and `StorageError`.
    """
    check_path(home)
    if read_version(home) is not None and _checked(home) == VERSION:
        return
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(home / "home.lock")
        lock.acquire()
    try:
        if (version := _checked(home)) is None:
            write_version(home, HomeVersion(version=VERSION))
        elif version < VERSION:
            _migrate(home, version, shared or SharedStores())
    finally:
        lock.release()


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
            write_version(home, HomeVersion(version=number))
            old.remove_working_files()
            log.warning("the home folder has version %d now; its former databases are in %s", number, old.copies)


def _begin(home: Path, number: int) -> Path:
    """Return the folder for the copies of the migration to version `number`: that of a migration that was killed, else
    a new one.

    A person may go back to an earlier release and upgrade again. That is another migration, for which neither the
    copies nor the working files of the first are right.
    """
    found = read_version(home)
    if found is not None and found.migration is not None:
        return home / found.migration
    names = (f"before-version-{number}{f'-{attempt}' if attempt > 1 else ''}" for attempt in count(1))
    name = next(name for name in names if not (home / name).exists())
    write_version(home, HomeVersion(version=number - 1, migration=name))
    return home / name
