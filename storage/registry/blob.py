"""The registry in a container of Azure Blob Storage, with a mirror folder on each machine for the versions in use."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.files import storage_errors
from taxonomist.storage.registry import ModelVersion, Moves
from taxonomist.storage.registry.aliases import NOWHERE, Alias, moved, removed, rolled_back, way_back
from taxonomist.storage.registry.blob_aliases import BlobAliases
from taxonomist.storage.registry.blob_versions import ROOT, BlobVersions
from taxonomist.storage.registry.folder import VERSION, FolderRegistry, check_name
from taxonomist.storage.registry.manifest_file import MANIFEST, manifest_bytes, manifest_of
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError

__all__ = ["BlobRegistry"]

log = logging.getLogger(__name__)

_ATTEMPTS = 5


class BlobRegistry:
    """A `Registry` that several machines share.

    `BlobVersions` has the versions. The aliases are one blob, changed by compare-and-swap. A server sees a change after
    `refresh_every_s` seconds, at the latest after a minute.

    A version is used from its copy in the folder `mirror`, checked by SHA-256. While Azure is not reachable, champions
    and versions that this machine has used before stay available; everything else raises `StorageError`.
    """

    def __init__(
        self, account: BlobAccount, container: str, mirror: Path | str, *, refresh_every_s: float = 15.0
    ) -> None:
        self._account = account
        self._root = Path(mirror)
        self._mirror = FolderRegistry(mirror)
        self._aliases = BlobAliases(
            account, container, f"{ROOT}/aliases.json", self._root / ".known-aliases.json", refresh_every_s
        )
        self._versions = BlobVersions(account, container)

    def stage(self, name: str) -> AbstractContextManager[Path]:
        """See `Registry.stage`."""
        return self._mirror.stage(name)

    def publish(self, name: str, files: Path, manifest: Mapping[str, Any]) -> ModelVersion:
        """See `Registry.publish`. Raises `StorageError` for a pickle (`.pkl`, `.pt`, ...) or a link among the files."""
        check_name(name)
        if files.parent != self._root / name:
            with self.stage(name) as staged, storage_errors(files):
                shutil.copytree(files, staged, dirs_exist_ok=True, symlinks=True)
                return self.publish(name, staged, manifest)
        with storage_errors(files):
            content = manifest_of(name, files, manifest)
            data = manifest_bytes(content)
            last = partial(self._aliases.last, name)
            version = self._account.run(lambda: self._versions.upload(name, files, content, data, last))
            (files / MANIFEST).write_bytes(data)
        return self._mirror.place(name, version, files)

    def names(self) -> list[str]:
        """See `Registry.names`."""
        return self._account.run(self._versions.names)

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`. Damaged versions are skipped, with a line in the log. `get` fills their folders."""
        check_name(name)
        return self._account.run(lambda: self._versions.versions(name, self._root))

    def get(self, name: str, version: str) -> ModelVersion:
        """See `Registry.get`. Fetches a version that is missing or damaged in the mirror."""
        check_name(name)
        if VERSION.fullmatch(version):
            try:
                return self._mirror.get(name, version)
            except NotFoundError:
                pass
            except DamagedError as error:
                log.warning("%s It is fetched again.", error)
        return self._fetch(name, version)

    def verify(self, version: ModelVersion, file: str | None = None) -> None:
        """See `Registry.verify`. A damaged copy is fetched again."""
        try:
            self._mirror.verify(self.get(version.name, version.version), file)
        except DamagedError as error:
            log.warning("%s It is fetched again.", error)
            self._fetch(version.name, version.version)

    def champion(self, name: str) -> str | None:
        """See `Registry.champion`."""
        return self._alias(name).champion

    def previous(self, name: str) -> str | None:
        """See `Registry.previous`."""
        return self._alias(name).before.get(name)

    def champions(self) -> Mapping[str, str]:
        """See `Registry.champions`."""
        return {name: alias.champion for name, alias in self._aliases.all().items() if alias.champion is not None}

    def promote(self, name: str, version: str) -> None:
        """See `Registry.promote`."""
        self.promote_together({name: version})

    def promote_together(self, versions: Mapping[str, str], *, instead_of: Moves | None = None) -> None:
        """See `Registry.promote_together`. The container is checked too, because other servers fetch from it."""
        self._check(versions)
        self._aliases.change(lambda now: moved(now, versions, instead_of))

    def rollback(self, name: str) -> str:
        """See `Registry.rollback`."""
        for _ in range(_ATTEMPTS):
            seen: list[Mapping[str, str | None]] = []

            def look(now: Mapping[str, Alias], seen: list[Mapping[str, str | None]] = seen) -> Mapping[str, Alias]:
                seen.append(way_back(now, name))
                return now

            self._aliases.change(look)
            before = seen[-1]
            self._check({other: version for other, version in before.items() if version is not None})
            try:
                self._aliases.change(partial(_moved_back, name=name, before=before))
            except ConflictError as conflict:
                log.info("The rollback is tried again: %s", conflict)
                continue
            return str(before[name])
        raise ConflictError(f'Other processes keep changing the champion of "{name}".', hint="Try again.")

    def remove(self, name: str) -> int:
        """See `Registry.remove`. Copies on other machines stay until they are deleted there."""
        check_name(name)
        numbers = self._account.run(lambda: self._versions.numbers(name))
        self._aliases.change(partial(removed, name=name, last=max(numbers, default=0)))
        self._account.run(lambda: self._versions.delete(name))
        shutil.rmtree(self._root / name, ignore_errors=True)
        return len(numbers)

    def alias_stamp(self, name: str) -> Hashable:
        """See `Registry.alias_stamp`: the champion and the number of its changes."""
        alias = self._alias(name)
        return (alias.champion, alias.changes)

    def close(self) -> None:
        """Stop the background refresh, before the process ends."""
        self._aliases.close()

    # --- inside

    def _alias(self, name: str) -> Alias:
        return self._aliases.all().get(name, NOWHERE)

    def _fetch(self, name: str, version: str) -> ModelVersion:
        with self.stage(name) as staged, storage_errors(staged):
            self._account.run(lambda: self._versions.download(name, version, staged))
            return self._mirror.place(name, version, staged)

    def _check(self, versions: Mapping[str, str]) -> None:
        for name, version in versions.items():
            found = self.get(name, version)
            self.verify(found)
            self._account.run(lambda found=found: self._versions.check(found))  # type: ignore[misc]


def _moved_back(now: Mapping[str, Alias], *, name: str, before: Mapping[str, str | None]) -> Mapping[str, Alias]:
    if way_back(now, name) != before:
        raise ConflictError(f'The champion of "{name}" has changed meanwhile.')
    return rolled_back(now, name)
