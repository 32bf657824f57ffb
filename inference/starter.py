"""The starter: a backbone in 8-bit integers that ships with the project. No torch.

It serves until the first pre-training where ImageNet weights are not available. `starter_backbone/README.md` describes
its training data.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.storage.registry import ModelVersion, Registry

FOLDER = Path(__file__).parent / "starter_backbone"
MANIFEST = "starter.json"
STATISTICS = "statistics.safetensors"  # mean and variance of the output of each convolution, for `starter_weights`


def has_starter(architecture: str) -> bool:
    """Return whether there is a starter of that architecture."""
    manifest = FOLDER / MANIFEST
    return manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["architecture"] == architecture


def starter_size() -> int:
    """Return the side in pixels of the images that the starter embeds."""
    return int(json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8"))["size"])


def is_starter(version: ModelVersion) -> bool:
    """Return whether a version of the backbone is the starter."""
    return version.backbone_manifest.starter


def publish_starter(registry: Registry, name: str) -> ModelVersion:
    """Publish the starter as a version of `name` and return it; it is not promoted."""
    starter = json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8"))
    with registry.stage(name) as folder:
        shutil.copyfile(FOLDER / BACKBONE_FILE, folder / BACKBONE_FILE)
        manifest = {
            "kind": "backbone",
            "architecture": starter["architecture"],
            "size": starter["size"],
            "dimension": starter["dimension"],
            "starter": True,
            "origin": f"the starter, MoCo v2 on {starter['pictures_seen']:,} rendered images of furniture",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(name, folder, manifest)
