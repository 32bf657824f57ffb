"""Versions of models, which are published as a whole or not at all, with the aliases `champion` and `previous`."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from taxonomist.storage.registry.model_version import ModelVersion
from taxonomist.taxonomy.errors import NotFoundError

__all__ = ["ModelVersion", "Moves", "Registry", "ensure_champion"]

Moves = Mapping[str, str | None]
"""Maps names to versions, None for a name without a version."""


class Registry(Protocol):
    """A store of models by name ("backbone", "project-4") and version ("v1", "v2", ...).

    Every method raises `StorageError` when the store cannot be read or written.
    """

    def stage(self, name: str) -> AbstractContextManager[Path]:
        """Return a context with an empty folder for the files of a new version; deleted at the end unless published."""
        ...

    def publish(self, name: str, files: Path, manifest: Mapping[str, Any]) -> ModelVersion:
        """Publish all files of the folder `files` as a new version and return it. A folder from `stage` is moved.

        Concurrent publishers all succeed. The manifest gets `files` (the SHA-256 and size of each), `published_at` and
        its own digest.
        """
        ...

    def names(self) -> list[str]:
        """Return the names that have at least one version, sorted."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all complete versions, oldest first."""
        ...

    def get(self, name: str, version: str) -> ModelVersion:
        """Return one version, after a check that its files exist with the right sizes.

        Raises `NotFoundError` or `DamagedError`.
        """
        ...

    def verify(self, version: ModelVersion, file: str | None = None) -> None:
        """Compare the SHA-256 of one file, of every file for None, with the manifest. Raises `DamagedError`."""
        ...

    def champion(self, name: str) -> str | None:
        """Return the version that is served, or `None`."""
        ...

    def previous(self, name: str) -> str | None:
        """Return the version that a rollback returns to, or `None`."""
        ...

    def champions(self) -> Mapping[str, str]:
        """Return the champion of every name that has one, all from the same state."""
        ...

    def promote(self, name: str, version: str) -> None:
        """Make the version the champion, and the champion the previous version.

        Nothing changes when the version is the champion already. Raises `NotFoundError` or `DamagedError` and then
        changes nothing.
        """
        ...

    def promote_together(self, versions: Mapping[str, str], *, instead_of: Moves | None = None) -> None:
        """Promote one version of each name in one step: readers see all changes or none, also after a crash.

        Raises `NotFoundError` or `DamagedError`, or `ConflictError` when `instead_of` names a champion that is not the
        current one, and then changes nothing.
        """
        ...

    def rollback(self, name: str) -> str:
        """Undo the last promotion of the name and return its new champion. The next call goes one further back.

        Names that were promoted together are rolled back together, each to its champion before, even a name that was
        promoted alone since. Raises `NotFoundError` when the name had no champion before, `DamagedError` when a version
        to return to is damaged, and then changes nothing.
        """
        ...

    def remove(self, name: str) -> int:
        """Delete all versions of the name and return how many; nothing of it is served from the first moment on.

        Promotions of other names no longer know it. The number of its last version stays taken, so that a version that
        another process or machine still holds is never mistaken for a new one.
        """
        ...

    def alias_stamp(self, name: str) -> Hashable:
        """Return a value that changes exactly when the aliases of the name change; fast enough for each request."""
        ...


def ensure_champion(registry: Registry, name: str, publish_first: Callable[[], object]) -> ModelVersion:
    """Return the champion of `name`. Without one, promote the first version, which `publish_first` publishes.

    Concurrent processes agree on the first published version.
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
