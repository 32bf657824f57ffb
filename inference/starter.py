"""The starter: a backbone of 8-bit integers that ships with the project and serves until the first own pre-training,
where ImageNet weights cannot be had. `starter_backbone/README.md` says what it was trained on. No torch."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.storage.registry import ModelVersion, Registry

FOLDER = Path(__file__).parent / "starter_backbone"
MANIFEST = "starter.json"
STATISTICS = "statistics.safetensors"  # mean and variance of what each convolution gives, for `starter_weights`


def has_starter(architecture: str) -> bool:
    """Whether there is a starter of that architecture."""
    about = FOLDER / MANIFEST
    return about.exists() and json.loads(about.read_text(encoding="utf-8"))["architecture"] == architecture


def is_starter(version: ModelVersion) -> bool:
    """Whether a version of the backbone is the starter."""
    return bool(version.manifest.get("starter"))


def publish_starter(registry: Registry, name: str) -> ModelVersion:
    """Publish the starter as a version of `name`, not yet the champion."""
    about = json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8"))
    with registry.stage(name) as folder:
        shutil.copyfile(FOLDER / BACKBONE_FILE, folder / BACKBONE_FILE)
        manifest = {
            "kind": "backbone",
            "architecture": about["architecture"],
            "size": about["size"],
            "dimension": about["dimension"],
            "starter": True,
            "origin": f"the starter, MoCo v2 on {about['pictures_seen']:,} rendered pictures of furniture",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(name, folder, manifest)
