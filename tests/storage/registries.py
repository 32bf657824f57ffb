"""The places that a registry can be in, for tests of what all of them do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.storage.registry.blob import BlobRegistry
from taxonomist.storage.registry.folder import FolderRegistry

Change = bytes | Callable[[bytes], bytes] | None


class Place(Protocol):
    """A store of models, in a folder or in a container."""

    def open(self) -> Registry:
        """Return a registry as another machine opens it."""
        ...

    def damage(self, name: str, version: str, file: str, content: Change) -> None:
        """Replace or, by None, remove a file of a version, behind the registry's back."""
        ...

    def write_aliases(self, text: str | None) -> None: ...


class FolderPlace:
    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> FolderRegistry:
        return FolderRegistry(self.root)

    def damage(self, name: str, version: str, file: str, content: Change) -> None:
        path = self.root / name / version / file
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    def write_aliases(self, text: str | None) -> None:
        path = self.root / "aliases.json"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)


class BlobPlace:
    """A store in a container; each opened registry has an empty mirror, as on a new machine."""

    def __init__(self, account: BlobAccount, container: str, mirrors: Path) -> None:
        self.account = account
        self.container = container
        self._opened: list[BlobRegistry] = []
        self._mirrors = (mirrors / f"machine-{number}" for number in itertools.count())

    def open(self, refresh_every_s: float = 0.0) -> BlobRegistry:
        return self.open_on(next(self._mirrors), refresh_every_s)

    def open_on(self, mirror: Path, refresh_every_s: float = 0.0) -> BlobRegistry:
        self._opened.append(BlobRegistry(self.account, self.container, mirror, refresh_every_s=refresh_every_s))
        return self._opened[-1]

    def close(self) -> None:
        for registry in self._opened:
            registry.close()

    def names(self, prefix: str = "") -> list[str]:
        return [blob.name for blob in self.account.run(lambda: self.account.list(self.container, prefix))]

    def damage(self, name: str, version: str, file: str, content: Change) -> None:
        async def work() -> None:
            manifest = f"models/{name}/{version}/manifest.json"
            where, place = manifest, (await self.account.read(self.container, manifest)).metadata["files"]
            if file != "manifest.json":
                where = f"models/{name}/files-{place}/{file}"
            if content is None:
                await self.account.delete(self.container, where)
                return
            data = content((await self.account.read(self.container, where)).data) if callable(content) else content
            await self.account.write(self.container, where, data, metadata={"files": place})

        self.account.run(work)

    def write_aliases(self, text: str | None) -> None:
        name = "models/aliases.json"
        if text is None:
            self.account.run(lambda: self.account.delete(self.container, name))
        else:
            self.account.run(lambda: self.account.write(self.container, name, text.encode()))


def publish(registry: Registry, text: str = "weights", name: str = "project-4") -> ModelVersion:
    with registry.stage(name) as staged:
        (staged / "head.safetensors").write_text(text)
        (staged / "report").mkdir()
        (staged / "report" / "curves.json").write_text("[1]")
        return registry.publish(name, staged, {"kind": "head", "project": "4"})
