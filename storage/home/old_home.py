"""An older home folder while it is migrated."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxonomist.storage.catalog import Catalog
from taxonomist.storage.files import storage_errors, sync_file, sync_folder, write_atomically
from taxonomist.storage.sqlite import as_storage_error

__all__ = ["OldHome", "SharedStores"]

_DATABASES = ("journal.sqlite", "catalog.sqlite", "jobs.sqlite", "suggestions.sqlite")
_ALIASES = Path("models", "aliases.json")  # a newer release may write it in another format


@dataclass(frozen=True)
class SharedStores:
    """What the home keeps outside its folder, in Azure; None for what it does not."""

    catalog: Callable[[], Catalog] | None = None
    rename_embeddings: Callable[[Mapping[str, str]], None] | None = None


@dataclass(frozen=True)
class OldHome:
    """A home during one migration. A step changes what lies in `path`.

    `copies` is the folder of this migration alone, with the databases as they were before it. A migration that was
    killed begins again, so a step must give the same result when its work is done in part. Until then a step may keep
    files in `working`.
    """

    path: Path
    copies: Path
    shared: SharedStores = SharedStores()

    @property
    def working(self) -> Path:
        """The folder of files that only this migration needs."""
        return self.copies / "working"

    def remove_working_files(self) -> None:
        """Remove the folder `working`; call it when the migration is done."""
        shutil.rmtree(self.working, ignore_errors=True)

    def copy_databases(self) -> None:
        """Copy the databases, the project records and the aliases, unless an earlier attempt of this migration did.

        Raises `StorageError`.
        """
        with storage_errors(self.copies):
            self.working.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _DATABASES:
                source, copy = self.path / name, self.copies / name
                if source.exists() and not copy.exists():
                    _copy_database(source, copy)
            records, copy = self.path / "projects", self.copies / "projects"
            if records.is_dir() and not copy.exists():
                unfinished = copy.with_suffix(".part")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(records, unfinished, ignore=shutil.ignore_patterns(".*"))
                unfinished.rename(copy)
            aliases, copy = self.path / _ALIASES, self.copies / _ALIASES
            if aliases.exists() and not copy.exists():
                copy.parent.mkdir(exist_ok=True, mode=0o700)
                write_atomically(copy, aliases.read_bytes())
            sync_folder(self.copies)

    @contextmanager
    def transaction(self, name: str) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection to a database of the home in a write transaction, None where there is no such file.

        The transaction is committed at the end of the block, and rolled back when the block raises. Raises
        `StorageError`.
        """
        path = self.path / name
        if not path.exists():
            yield None
            return
        try:
            with closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise as_storage_error(error, path) from error


def _copy_database(source: Path, copy: Path) -> None:
    unfinished = copy.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source, timeout=30.0)) as old, closing(sqlite3.connect(unfinished)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        unfinished.unlink(missing_ok=True)
        raise as_storage_error(error, source) from error
    sync_file(unfinished)
    unfinished.rename(copy)
