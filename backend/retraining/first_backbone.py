"""The backbone that a new home folder begins with."""

from __future__ import annotations

from dataclasses import replace

from filelock import FileLock

from taxonomist.backend.extras import install_hint, is_installed
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.starter import is_served_by_starter, publish_starter
from taxonomist.storage.registry import ModelVersion, ensure_champion
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.spec import BackboneSpec


def prepare_backbone(services: Services) -> ModelVersion:
    """Return the backbone that embeds new images; the first one is made from the settings.

    Only that first one needs the extra `train`, and not where it is the starter. Raises `ConfigError` when the start
    weights, or the packages that make a backbone of them, are missing.
    """
    with FileLock(services.settings.home / "backbone.lock"):
        return services.backbone() or _first(services)


def _first(services: Services) -> ModelVersion:
    settings = services.settings
    spec = BackboneSpec(settings.backbone, settings.backbone_weights, settings.seed)
    if settings.image_size is not None:
        spec = replace(spec, size=settings.image_size)
    if is_served_by_starter(spec.architecture, spec.weights, spec.size):
        return ensure_champion(services.registry, BACKBONE, lambda: publish_starter(services.registry, BACKBONE))
    if not is_installed("train"):
        raise ConfigError(
            f"The first backbone ({spec.architecture}, weights {spec.weights}, {spec.size} pixels) needs the extra "
            "`train`.",
            hint=f"{install_hint('train')}; or unset TAXONOMIST_BACKBONE, TAXONOMIST_BACKBONE_WEIGHTS and "
            "TAXONOMIST_IMAGE_SIZE to begin with the starter, which needs no torch.",
        )
    from taxonomist.training.backbones.publish import ensure_backbone  # noqa: PLC0415 - brings torch

    return ensure_backbone(services.registry, spec)
