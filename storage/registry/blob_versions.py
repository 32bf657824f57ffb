"""The versions in a container of Azure Blob Storage: their manifests and files, listed, uploaded and downloaded."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from azure.core.exceptions import HttpResponseError

from taxonomist.storage.azure.blob_account import BlobAccount, ListedBlob
from taxonomist.storage.azure.retry_policy import status_of
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import VERSION
from taxonomist.storage.registry.manifest_file import MANIFEST, damaged, parse_manifest
from taxonomist.taxonomy.errors import DamagedError, NotFoundError

log = logging.getLogger(__name__)

ROOT = "models"
_BLOB = re.compile(rf"{ROOT}/([^/]+)/(?:(v[1-9][0-9]*)/manifest\.json|files-([0-9a-f]{{32}})/(.+))")
_DAY_S = 86_400


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


class BlobVersions:
    """The versions in one container.

    The files of a version are uploaded under a unique name. The manifest is written last, and only if none exists, so
    that a version appears complete or not at all and two publishers get two numbers. The coroutines run in the
    account's loop.
    """

    def __init__(self, account: BlobAccount, container: str) -> None:
        self._account = account
        self._container = container
        self._manifests: dict[tuple[str, str], Mapping[str, Any]] = {}  # by name and ETag

    async def names(self) -> list[str]:
        """Return the names that have versions, sorted."""
        found = [_BLOB.fullmatch(blob.name) for blob in await self._account.list(self._container, f"{ROOT}/")]
        return sorted({match[1] for match in found if match and match[2]})

    async def check(self, version: ModelVersion) -> None:
        """Raise `DamagedError` when the container has other files or another manifest than this version."""
        listing = await self._list(version.name)
        manifest = await self._manifest(listing, version.version)
        if manifest["digest"] != version.manifest["digest"]:
            raise damaged(f"{version.name}/{version.version}/{MANIFEST}", "differs from the one in Azure")
        for path, described in manifest["files"].items():
            blob = listing.files[listing.places[version.version]][path]
            if blob.metadata.get("sha256") != described["sha256"]:
                raise damaged(blob.name, "was changed in Azure")

    async def versions(self, name: str, mirror: Path) -> list[ModelVersion]:
        """Return the versions that are complete, with their folders in `mirror`; the others are logged."""
        listing = await self._list(name)
        found = []
        for version in listing.versions:
            try:
                manifest = await self._manifest(listing, version)
            except DamagedError as error:
                log.warning("%s", error)
            else:
                found.append(ModelVersion(name, version, mirror / name / version, manifest))
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
        for blob in await self._account.list(self._container, f"{ROOT}/{name}/"):
            match = _BLOB.fullmatch(blob.name)
            if match and match[2]:
                listing.places[match[2]] = blob.metadata.get("files", "")
                listing.manifests[match[2]] = blob
            elif match:
                listing.files.setdefault(match[3], {})[match[4]] = blob
        return listing

    async def download(self, name: str, version: str, into: Path) -> None:
        """Download a version and check it by SHA-256. Raises `NotFoundError` and `DamagedError`."""
        manifest_name = f"{ROOT}/{name}/{version}/{MANIFEST}"
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
            source = f"{ROOT}/{name}/files-{blob.metadata.get('files')}/{path}"
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

    async def numbers(self, name: str) -> list[int]:
        """Return the numbers of all versions of a name, ascending."""
        return [_number(version) for version in (await self._list(name)).versions]

    async def delete(self, name: str) -> None:
        """Delete all versions of a name, the manifests first: a version without one does not count."""
        blobs = await self._account.list(self._container, f"{ROOT}/{name}/")
        for blob in sorted(blobs, key=lambda blob: not blob.name.endswith(f"/{MANIFEST}")):
            await self._account.delete(self._container, blob.name)

    async def upload(
        self,
        name: str,
        files: Path,
        content: Mapping[str, Any],
        manifest: bytes,
        last: Callable[[], Awaitable[int]],
    ) -> str:
        """Upload the files and return their version. `last` gives the number of the last version that was removed."""
        listing = await self._list(name)
        await self._clean(listing)
        place = uuid4().hex
        for path, described in content["files"].items():
            await self._account.write_file(
                self._container,
                f"{ROOT}/{name}/files-{place}/{path}",
                files / path,
                metadata={"sha256": described["sha256"]},
            )
        number = max(map(_number, listing.versions), default=0) or await last()
        while True:
            number += 1
            if await self._claim(f"{ROOT}/{name}/v{number}/{MANIFEST}", manifest, place):
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
