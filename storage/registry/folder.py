"""The registry in a folder: `<root>/<name>/<version>/`, with one `aliases.json` beside the names."""

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from taxonomist.storage.files import storage_errors, sync_file, sync_folder
from taxonomist.storage.registry import ModelVersion, Moves
from taxonomist.storage.registry.aliases import Aliases, removed, rolled_back, way_back
from taxonomist.storage.registry.manifest_file import MANIFEST, check_files, manifest_bytes, manifest_of, read_manifest
from taxonomist.taxonomy.errors import DamagedError, NotFoundError

__all__ = ["VERSION", "FolderRegistry", "check_name"]

log = logging.getLogger(__name__)

_STAGING = ".staging-"
_DAY_S = 86_400
_OCCUPIED = {errno.EEXIST, errno.ENOTEMPTY}
VERSION = re.compile(r"v([1-9][0-9]*)")
_BAD_NAME = re.compile(r'[\x00-\x1f/\\:*?"<>|]|^\.|^$')


class FolderRegistry:
    """A `Registry` for one machine, or for several that mount the same folder.

    A version is written into a hidden folder, synced and renamed, so that it appears complete or not at all.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)
        self._aliases = Aliases(self._root / "aliases.json")

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """See `Registry.stage`."""
        folder = self._folder(name)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _clean(folder)
            staged = folder / f"{_STAGING}{uuid4().hex}"
            staged.mkdir()
        try:
            with storage_errors(folder):
                yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def publish(self, name: str, files: Path, manifest: Mapping[str, Any]) -> ModelVersion:
        """See `Registry.publish`. Raises `StorageError` for a pickle (`.pkl`, `.pt`, ...) or a link among the files."""
        folder = self._folder(name)
        if not (files.parent == folder and files.name.startswith(_STAGING)):
            with self.stage(name) as staged, storage_errors(files):
                shutil.copytree(files, staged, dirs_exist_ok=True, symlinks=True)
                return self.publish(name, staged, manifest)
        with storage_errors(files):
            (files / MANIFEST).write_bytes(manifest_bytes(manifest_of(name, files, manifest)))
            _sync_tree(files)
            version = _move_in(files, folder, self._aliases.get(name).last)
            sync_folder(folder)
        return self.get(name, version)

    def place(self, name: str, version: str, files: Path) -> ModelVersion:
        """Move a folder from `stage`, with its manifest, to a given version number, and return the version.

        An existing version stays if it is intact, and is replaced otherwise.
        """
        target = self._folder(name) / version
        with storage_errors(files):
            _sync_tree(files)
            while True:
                try:
                    files.rename(target)
                    break
                except OSError as error:
                    if error.errno not in _OCCUPIED:
                        raise
                with suppress(DamagedError, NotFoundError):
                    self.verify(self.get(name, version))
                    break
                aside = target.with_name(f"{_STAGING}{uuid4().hex}")
                with suppress(FileNotFoundError):  # another process was faster
                    target.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
            sync_folder(target.parent)
        return self.get(name, version)

    def names(self) -> list[str]:
        """See `Registry.names`."""
        with storage_errors(self._root):
            folders = [path for path in self._root.iterdir() if path.is_dir()] if self._root.is_dir() else []
        return sorted(
            path.name for path in folders if not _BAD_NAME.search(path.name) and _numbers(path, complete=True)
        )

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`. Damaged versions are skipped, with a line in the log."""
        found = []
        for number in _numbers(self._folder(name), complete=True):
            try:
                found.append(self.get(name, f"v{number}"))
            except DamagedError as error:
                log.warning("%s", error)
        return found

    def get(self, name: str, version: str) -> ModelVersion:
        """See `Registry.get`."""
        path = self._folder(name) / version
        if not VERSION.fullmatch(version) or not (path / MANIFEST).is_file():
            known = ", ".join(f"v{number}" for number in _numbers(self._folder(name), complete=True)) or "none"
            raise NotFoundError(f'There is no version "{version}" of "{name}".', hint=f"There are: {known}.")
        with storage_errors(path):
            manifest = read_manifest(path / MANIFEST)
            found = ModelVersion(name, version, path, manifest)
            check_files(found, contents=())
        return found

    def verify(self, version: ModelVersion, file: str | None = None) -> None:
        """See `Registry.verify`."""
        with storage_errors(version.path):
            read_manifest(version.path / MANIFEST)
            check_files(version, contents=version.files if file is None else (file,))

    def champion(self, name: str) -> str | None:
        """See `Registry.champion`."""
        return self._aliases.get(name).champion

    def previous(self, name: str) -> str | None:
        """See `Registry.previous`."""
        return self._aliases.get(name).before.get(name)

    def champions(self) -> Mapping[str, str]:
        """See `Registry.champions`."""
        return {name: alias.champion for name, alias in self._aliases.all().items() if alias.champion is not None}

    def promote(self, name: str, version: str) -> None:
        """See `Registry.promote`."""
        self.promote_together({name: version})

    def promote_together(self, versions: Mapping[str, str], *, instead_of: Moves | None = None) -> None:
        """See `Registry.promote_together`."""
        for name, version in versions.items():
            self.verify(self.get(name, version))
        with self._aliases.locked():
            self._aliases.move(versions, instead_of)

    def rollback(self, name: str) -> str:
        """See `Registry.rollback`."""
        with self._aliases.locked():
            now = self._aliases.all()
            before = way_back(now, name)
            for other, version in before.items():
                if version is not None:
                    self.verify(self.get(other, version))
            self._aliases.write(rolled_back(now, name))
        return str(before[name])

    def remove(self, name: str) -> int:
        """See `Registry.remove`."""
        folder = self._folder(name)
        numbers = _numbers(folder, complete=False)
        with self._aliases.locked():
            self._aliases.write(removed(self._aliases.all(), name, max(numbers, default=0)))
        with storage_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
                sync_folder(folder.parent)
        return len(numbers)

    def alias_stamp(self, name: str) -> Hashable:
        """See `Registry.alias_stamp`: the champion and the number of its changes."""
        alias = self._aliases.get(name)
        return (alias.champion, alias.changes)

    def _folder(self, name: str) -> Path:
        check_name(name)
        return self._root / name


def check_name(name: str) -> None:
    """Raise `NotFoundError` for a name that would lead to another folder."""
    if _BAD_NAME.search(name) or len(name.encode()) > 200:
        raise NotFoundError(f'"{name}" is not a valid name of a model.', hint="Use letters, digits and dashes.")


def _numbers(folder: Path, *, complete: bool) -> list[int]:
    """Return the numbers of the versions in the folder, ascending; with `complete` only of those with a manifest."""
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [(path, VERSION.fullmatch(path.name)) for path in entries]
    return sorted(int(match[1]) for path, match in matches if match and (not complete or (path / MANIFEST).is_file()))


def _move_in(staged: Path, folder: Path, last: int) -> str:
    number = max([last, *_numbers(folder, complete=False)])
    while True:
        number += 1
        try:
            # A rename cannot replace a folder with files: of two publishers, the slower one takes the next number.
            staged.rename(folder / f"v{number}")
            return f"v{number}"
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for file in files:
            sync_file(Path(root) / file)
        sync_folder(Path(root))


def _clean(folder: Path) -> None:
    """Delete the staged folders and versions without a manifest that killed publishers left, after a day."""
    for path in folder.iterdir():
        left_over = path.name.startswith(_STAGING) or (VERSION.fullmatch(path.name) and not (path / MANIFEST).is_file())
        if left_over and path.is_dir() and _newest(path) < time.time() - _DAY_S:
            shutil.rmtree(path, ignore_errors=True)


def _newest(folder: Path) -> float:
    try:
        times = [folder.stat().st_mtime]
        for root, _, files in os.walk(folder):
            times += [(Path(root) / file).stat().st_mtime for file in files]
    except FileNotFoundError:  # its publisher is still working
        return time.time()
    return max(times)
