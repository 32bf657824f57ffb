"""The starter: the backbone that ships with the project and that a new home begins with. No torch.

It serves until another backbone wins. `starter_backbone/README.md` has its source and its licence.
"""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.storage.registry import ModelVersion, Registry

FOLDER = Path(__file__).parent / "starter_backbone"
MANIFEST = "starter.json"
WEIGHTS_FILE = "backbone.safetensors"
"""The weights of a version of the backbone, for later trainings."""


def starter_architecture() -> str:
    """Return the architecture of the starter."""
    return str(_manifest()["architecture"])


def has_starter(architecture: str) -> bool:
    """Return whether the starter has that architecture."""
    return architecture == starter_architecture()


def starter_size() -> int:
    """Return the side in pixels of the images that the starter embeds."""
    return int(_manifest()["size"])


def starter_near_distance() -> float:
    """Return how near two images must be in the starter's space to count as near-duplicates."""
    return float(_manifest()["near_distance"])


def is_served_by_starter(architecture: str, weights: str, size: int) -> bool:
    """Return whether the starter itself is the first backbone that the settings ask for: of that architecture, with
    the start weights `weights` ("auto", "starter", ...), for images of `size` pixels. Then nothing has to be exported.
    """
    return weights in {"auto", "starter"} and has_starter(architecture) and size == starter_size()


def is_earlier_starter(version: ModelVersion) -> bool:
    """Return whether a version of the backbone is the starter of an earlier release, with another ONNX file."""
    return version.backbone_manifest.starter and not _is_as_shipped(version)


def ensure_starter(registry: Registry, name: str) -> ModelVersion:
    """Return the version of `name` that is the starter; it is published where there is none, and not promoted."""
    published = (version for version in registry.versions(name) if _is_as_shipped(version))
    return next(published, None) or publish_starter(registry, name)


def publish_starter(registry: Registry, name: str) -> ModelVersion:
    """Publish the starter and its weights as a version of `name` and return it; it is not promoted."""
    starter = _manifest()
    with registry.stage(name) as folder:
        for file in (BACKBONE_FILE, WEIGHTS_FILE):
            shutil.copyfile(FOLDER / file, folder / file)
        manifest = {
            "kind": "backbone",
            "architecture": starter["architecture"],
            "size": starter["size"],
            "dimension": starter["dimension"],
            "starter": True,
            "near_distance": starter_near_distance(),
            "origin": f"the starter, {starter['origin']}",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(name, folder, manifest)


def _is_as_shipped(version: ModelVersion) -> bool:
    shipped = hashlib.sha256((FOLDER / BACKBONE_FILE).read_bytes()).hexdigest()
    return BACKBONE_FILE in version.files and version.files[BACKBONE_FILE].sha256 == shipped


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8"))
    return manifest
