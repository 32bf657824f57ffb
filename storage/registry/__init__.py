"""Model versions: folders that appear whole or not at all, with `champion` and `previous` as aliases."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from taxonomist.storage.registry.model_version import ModelVersion
from taxonomist.taxonomy.errors import NotFoundError

__all__ = ["ModelVersion", "Moves", "Registry", "ensure_champion"]

Moves = Mapping[str, str | None]
"""Versions by name; None where there is none."""


class Registry(Protocol):
    """Where models are kept, by name ("backbone", "project-4") and version ("v1", "v2", ...).

    Every method raises `StorageError` when the store cannot be read or written.
    """

    def stage(self, name: str) -> AbstractContextManager[Path]:
        """An empty folder for the files of a version to come; removed on leaving unless it was published."""
        ...

    def publish(self, name: str, files: Path, manifest: Mapping[str, Any]) -> ModelVersion:
        """Make a version of all files in the folder `files`, which is used up when it came from `stage`.

        Two publishers at once both succeed. The manifest gets `files` (sha256 and size of each), `published_at` and
        a digest of its own.
        """
        ...

    def names(self) -> list[str]:
        """Names that have at least one version, sorted."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """All whole versions, oldest first; empty when there are none."""
        ...

    def get(self, name: str, version: str) -> ModelVersion:
        """One version, after a quick look that its files are there with their sizes. Raises `NotFoundError` or
        `DamagedError`."""
        ...

    def verify(self, version: ModelVersion) -> None:
        """Compare the sha256 of every file with the manifest. Raises `DamagedError`."""
        ...

    def champion(self, name: str) -> str | None:
        """The version that is served, or `None`."""
        ...

    def previous(self, name: str) -> str | None:
        """The version that was served before, or `None`."""
        ...

    def champions(self) -> Mapping[str, str]:
        """The champion of every name that has one, all of one moment."""
        ...

    def promote(self, name: str, version: str) -> None:
        """Make the version the champion and the champion the previous one; nothing happens when it is the champion
        already. Raises `NotFoundError` or `DamagedError` and changes nothing then."""
        ...

    def promote_together(self, versions: Mapping[str, str], *, instead_of: Moves | None = None) -> None:
        """Promote a version of each name, all in one step: a reader sees all of it or nothing, and so does a crash.

        Raises `NotFoundError` or `DamagedError`, or `ConflictError` when `instead_of` names a champion that is not the
        one of today, and changes nothing then.
        """
        ...

    def rollback(self, name: str) -> str:
        """Take back the last change of the name; returns its new champion.

        What was promoted together goes back together: each to what it had before, also one that has moved on alone
        since. This is a change itself, which a second rollback takes back. Raises `NotFoundError` when the name had no
        champion before, `DamagedError` when one to go back to is not whole, and changes nothing then.
        """
        ...

    def alias_stamp(self, name: str) -> Hashable:
        """Changes whenever the aliases of the name do, and only then; cheap enough to ask on each request."""
        ...


def ensure_champion(registry: Registry, name: str, publish_first: Callable[[], object]) -> ModelVersion:
    """Return the champion of `name`; where there is none, promote the first version, which `publish_first` makes.

    Processes that do this at the same time agree on the first version published.
    """
    champion = registry.champion(name)
    if champion is None:
        if not registry.versions(name):
            publish_first()
        versions = registry.versions(name)
        if not versions:
            raise NotFoundError(f"The version of {name} that was just published is not in the registry.")
        champion = versions[0].version
        registry.promote(name, champion)
    return registry.get(name, champion)
