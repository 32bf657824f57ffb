"""Backbones in the registry: publication, and the first champion."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import is_served_by_starter, publish_starter, starter_near_distance
from taxonomist.storage.registry import ModelVersion, Registry, ensure_champion
from taxonomist.training.backbones.build import STARTER_ORIGIN, BuiltBackbone, build_backbone, check_starter
from taxonomist.training.backbones.export import export_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.near_duplicates import near_distance

logger = logging.getLogger(__name__)

BACKBONE_NAME = "backbone"
"""The name of the backbone in the registry."""


def publish_backbone(
    registry: Registry,
    built: BuiltBackbone,
    size: int,
    details: Mapping[str, Any],
    attachments: Iterable[Path] = (),
    images: npt.NDArray[np.uint8] | None = None,
) -> ModelVersion:
    """Export `built` for images of `size` pixels as a new version of the backbone, not yet the champion.

    `details` become part of the manifest, copies of the `attachments` part of the version. With some `images` (n, size,
    size, 3) of its catalogue, the distance of near-duplicates is measured on them. Return the version.
    """
    with registry.stage(BACKBONE_NAME) as folder:
        export_backbone(built.module, folder, size)
        if images is not None:
            near = near_distance(Embedder(folder / BACKBONE_FILE).embed, images)
            details = {**details, **({} if near is None else {"near_distance": near})}
        for attachment in attachments:
            copyfile(attachment, folder / attachment.name)
        manifest = {
            "kind": "backbone",
            "architecture": built.module.architecture.name,
            "size": size,
            "dimension": built.module.dimension,
            "origin": built.origin,
            **details,
            "torch": torch.__version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(BACKBONE_NAME, folder, manifest)


def ensure_backbone(registry: Registry, spec: BackboneSpec) -> ModelVersion:
    """Return the champion of the backbones; the first time, make one from `spec`.

    Where `spec` asks for the starter's weights at its size, the starter itself is published. An existing champion
    stays, whatever `spec` says: heads and embeddings belong to it. Processes that do this at the same time agree on the
    first version published. Raises what `build_backbone` and the registry raise.
    """
    version = ensure_champion(registry, BACKBONE_NAME, lambda: _publish_first(registry, spec))
    wanted = {"architecture": spec.architecture, "size": spec.size}
    actual = {key: getattr(version.backbone_manifest, key) for key in wanted}
    if actual != wanted:
        logger.warning("The settings ask for the backbone %s; the one in use is %s and stays.", wanted, actual)
    return version


def _publish_first(registry: Registry, spec: BackboneSpec) -> None:
    if spec.weights == "starter":
        check_starter(spec.architecture)
    if is_served_by_starter(spec.architecture, spec.weights, spec.size):
        publish_starter(registry, BACKBONE_NAME)
    else:
        built = build_backbone(spec)
        near = {"near_distance": starter_near_distance()} if built.origin == STARTER_ORIGIN else {}
        publish_backbone(registry, built, spec.size, {"settings": asdict(spec), **near})
