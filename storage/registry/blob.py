"""The registry in a container of Azure Blob Storage, with a mirror folder on each machine for the versions in use."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from azure.core.exceptions import HttpResponseError

from taxonomist.storage.azure.blob_account import BlobAccount, ListedBlob
from taxonomist.storage.azure.retry_policy import status_of
from taxonomist.storage.files import storage_errors
from taxonomist.storage.registry import ModelVersion, Moves
from taxonomist.storage.registry.aliases import NOWHERE, Alias, moved, rolled_back, way_back
from taxonomist.storage.registry.blob_aliases import BlobAliases
from taxonomist.storage.registry.folder import VERSION, FolderRegistry, check_name
from taxonomist.storage.registry.manifest_file import MANIFEST, damaged, manifest_bytes, manifest_of, parse_manifest
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError

__all__ = ["BlobRegistry"]

log = logging.getLogger(__name__)

_ROOT = "models"
_BLOB = re.compile(rf"{_ROOT}/([^/]+)/(?:(v[1-9][0-9]*)/manifest\.json|files-([0-9a-f]{{32}})/(.+))")
_DAY_S = 86_400
_ATTEMPTS = 5


@dataclass
class _Listing:
    """The blobs of one name: the place of each version, its manifest, and the files of each place."""

    places: dict[str, str] = field(default_factory=dict)  # version -> place
    manifests: dict[str, ListedBlob] = field(default_factory=dict)  # version -> its manifest
    files: dict[str, dict[str, ListedBlob]] = field(default_factory=dict)  # place -> path -> blob

    @property
    def versions(self) -> list[str]:
        """The versions, ascending."""
        return sorted(self.places, key=_number)


class BlobRegistry:
    """A `Registry` that several machines share.

    The files of a version are uploaded under a unique name. The manifest is written last, and only if none exists, so
    that a version appears complete or not at all and two publishers get two numbers. The aliases are one blob, changed
    by compare-and-swap. A server sees a change after `refresh_every_s` seconds, at the latest after a minute.

    A version is used from its copy in the folder `mirror`, checked by SHA-256. While Azure is not reachable, champions
    and versions that this machine has used before stay available; everything else raises `StorageError`.
    """

    def __init__(
        self, account: BlobAccount, container: str, mirror: Path | str, *, refresh_every_s: float = 15.0
    ) -> None:
        self._account = account
        self._container = container
        self._root = Path(mirror)
        self._mirror = FolderRegistry(mirror)
        self._aliases = BlobAliases(
            account, container, f"{_ROOT}/aliases.json", self._root / ".known-aliases.json", refresh_every_s
        )
        self._manifests: dict[tuple[str, str], Mapping[str, Any]] = {}  # by name and ETag

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
            version = self._account.run(lambda: self._upload(name, files, content, data))
            (files / MANIFEST).write_bytes(data)
        return self._mirror.place(name, version, files)

    def names(self) -> list[str]:
        """See `Registry.names`."""
        blobs = self._account.run(lambda: self._account.list(self._container, f"{_ROOT}/"))
        found = (_BLOB.fullmatch(blob.name) for blob in blobs)
        return sorted({match[1] for match in found if match and match[2]})

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`. Damaged versions are skipped, with a line in the log. `get` fills their folders."""
        check_name(name)
        return self._account.run(lambda: self._versions(name))

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

    def verify(self, version: ModelVersion) -> None:
        """See `Registry.verify`. A damaged copy is fetched again."""
        try:
            self._mirror.verify(self.get(version.name, version.version))
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
            self._account.run(lambda: self._download(name, version, staged))
            return self._mirror.place(name, version, staged)

    def _check(self, versions: Mapping[str, str]) -> None:
        for name, version in versions.items():
            found = self.get(name, version)
            self.verify(found)
            self._account.run(lambda found=found: self._check_container(found))  # type: ignore[misc]

    async def _check_container(self, version: ModelVersion) -> None:
        listing = await self._list(version.name)
        manifest = await self._manifest(listing, version.version)
        if manifest["digest"] != version.manifest["digest"]:
            raise damaged(f"{version.name}/{version.version}/{MANIFEST}", "differs from the one in Azure")
        for path, described in manifest["files"].items():
            blob = listing.files[listing.places[version.version]][path]
            if blob.metadata.get("sha256") != described["sha256"]:
                raise damaged(blob.name, "was changed in Azure")

    async def _versions(self, name: str) -> list[ModelVersion]:
        listing = await self._list(name)
        found = []
        for version in listing.versions:
            try:
                manifest = await self._manifest(listing, version)
            except DamagedError as error:
                log.warning("%s", error)
            else:
                found.append(ModelVersion(name, version, self._root / name / version, manifest))
        return found

    async def _manifest(self, listing: _Listing, version: str) -> Mapping[str, Any]:
        """Return the manifest of a version. Raises `DamagedError` unless all its files exist with their sizes."""
        blob = listing.manifests.get(version)
        if blob is None:
            raise damaged(f"{version}/{MANIFEST}", "is missing in Azure")
        if (blob.name, blob.etag) not in self._manifests:
            content = await self._account.read(self._container, blob.name)
            self._manifests[blob.name, blob.etag] = parse_manifest(content.data, blob.name)
        manifest = self._manifests[blob.name, blob.etag]
        files = listing.files.get(listing.places[version], {})
        for path, described in manifest["files"].items():
            if path not in files:
                raise damaged(f"{blob.name.removesuffix(MANIFEST)}{path}", "is missing in Azure")
            if files[path].size != described["size"]:
                raise damaged(files[path].name, f"has {files[path].size} bytes instead of {described['size']}")
        return manifest

    async def _list(self, name: str) -> _Listing:
        listing = _Listing()
        for blob in await self._account.list(self._container, f"{_ROOT}/{name}/"):
            match = _BLOB.fullmatch(blob.name)
            if match and match[2]:
                listing.places[match[2]] = blob.metadata.get("files", "")
                listing.manifests[match[2]] = blob
            elif match:
                listing.files.setdefault(match[3], {})[match[4]] = blob
        return listing

    async def _download(self, name: str, version: str, into: Path) -> None:
        manifest_name = f"{_ROOT}/{name}/{version}/{MANIFEST}"
        try:
            if not VERSION.fullmatch(version):
                raise _unknown(name, version, await self._list(name))
            blob = await self._account.read(self._container, manifest_name)
        except HttpResponseError as error:
            if status_of(error) != 404:
                raise
            raise _unknown(name, version, await self._list(name)) from error
        manifest = parse_manifest(blob.data, manifest_name)
        (into / MANIFEST).write_bytes(blob.data)
        for path, described in manifest["files"].items():
            source = f"{_ROOT}/{name}/files-{blob.metadata.get('files')}/{path}"
            if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
                raise damaged(source, "is outside its folder")
            await self._download_file(source, into / path, described)

    async def _download_file(self, source: str, target: Path, described: Mapping[str, Any]) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with target.open("wb") as file:
                async for part in self._account.parts(self._container, source, described["size"]):
                    digest.update(part)
                    file.write(part)
        except HttpResponseError as error:
            if status_of(error) not in (404, 416):
                raise
            raise damaged(source, "is missing or incomplete in Azure") from error
        if digest.hexdigest() != described["sha256"]:
            raise damaged(source, "does not match its SHA-256 in Azure")

    async def _upload(self, name: str, files: Path, content: Mapping[str, Any], manifest: bytes) -> str:
        """Upload the files and return their version."""
        listing = await self._list(name)
        await self._clean(listing)
        place = uuid4().hex
        for path, described in content["files"].items():
            await self._account.write_file(
                self._container,
                f"{_ROOT}/{name}/files-{place}/{path}",
                files / path,
                metadata={"sha256": described["sha256"]},
            )
        number = max(map(_number, listing.versions), default=0)
        while True:
            number += 1
            if await self._claim(f"{_ROOT}/{name}/v{number}/{MANIFEST}", manifest, place):
                return f"v{number}"

    async def _claim(self, manifest_name: str, manifest: bytes, place: str) -> bool:
        """Write the manifest; return false when another publisher has written it."""
        try:
            await self._account.write(
                self._container, manifest_name, manifest, if_absent=True, metadata={"files": place}
            )
        except HttpResponseError as error:
            if status_of(error) not in (409, 412):
                raise
            # It may be ours: the response to an earlier attempt may have been lost.
            return (await self._account.read(self._container, manifest_name)).metadata.get("files") == place
        return True

    async def _clean(self, listing: _Listing) -> None:
        """Delete the files without a manifest that killed publishers left, after a day."""
        for place, files in listing.files.items():
            newest = max(blob.modified for blob in files.values())
            if place not in listing.places.values() and newest < time.time() - _DAY_S:
                for blob in files.values():
                    await self._account.delete(self._container, blob.name)


def _number(version: str) -> int:
    return int(version.removeprefix("v"))


def _unknown(name: str, version: str, listing: _Listing) -> NotFoundError:
    known = ", ".join(listing.versions) or "none"
    return NotFoundError(f'There is no version "{version}" of "{name}".', hint=f"There are: {known}.")


def _moved_back(now: Mapping[str, Alias], *, name: str, before: Mapping[str, str | None]) -> Mapping[str, Alias]:
    if way_back(now, name) != before:
        raise ConflictError(f'The champion of "{name}" has changed meanwhile.')
    return rolled_back(now, name)
