"""A published version of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from taxonomist.storage.registry.manifests import (
    BackboneManifest,
    FileEntry,
    HeadManifest,
    parse_backbone,
    parse_files,
    parse_head,
)

__all__ = ["MANIFEST", "ModelVersion"]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ModelVersion:
    """A published version. `path` is a local folder with its files; they never change.

    `manifest` is the JSON object as it is stored. Read it through `backbone_manifest`, `head_manifest` and `files`,
    which raise `DamagedError` when a field is missing or has a wrong value.
    """

    name: str
    version: str
    path: Path
    manifest: Mapping[str, Any]

    @cached_property
    def backbone_manifest(self) -> BackboneManifest:
        """The manifest of a version of the backbone."""
        return parse_backbone(self.manifest, self.path / MANIFEST)

    @cached_property
    def head_manifest(self) -> HeadManifest:
        """The manifest of a version of a project's head."""
        return parse_head(self.manifest, self.path / MANIFEST)

    @cached_property
    def files(self) -> Mapping[str, FileEntry]:
        """The files by their path in the version, with `/`."""
        return parse_files(self.manifest, self.path / MANIFEST)
