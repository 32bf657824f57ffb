"""The backbone that a new home folder begins with."""

from __future__ import annotations

from dataclasses import replace

from filelock import FileLock

from taxonomist.backend.extras import install_hint, is_installed
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.starter import has_starter, publish_starter, starter_size
from taxonomist.storage.registry import ModelVersion, ensure_champion
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.spec import BackboneSpec


def prepare_backbone(services: Services) -> ModelVersion:
    """Return the backbone that embeds new images; the first one is made from the settings.

    Only that first one needs the extra `train`, and not where the starter is what the settings allow. Raises
    `ConfigError` when the start weights, or the packages that make a backbone of them, are missing.
    """
    with FileLock(services.settings.home / "backbone.lock"):
        if found := services.backbone():
            return found
        if is_installed("train"):
            return _make(services)
        _check_starter(services.settings)
        return ensure_champion(services.registry, BACKBONE, lambda: publish_starter(services.registry, BACKBONE))


def _make(services: Services) -> ModelVersion:
    from taxonomist.training.backbones.publish import ensure_backbone  # noqa: PLC0415 - brings torch

    settings = services.settings
    spec = BackboneSpec(settings.backbone, settings.backbone_weights, settings.seed)
    if settings.image_size is not None:
        spec = replace(spec, size=settings.image_size)
    return ensure_backbone(services.registry, spec, or_starter=settings.image_size is None)


def _check_starter(settings: Settings) -> None:
    """Raise `ConfigError` where the settings ask for a first backbone that only torch can make.

    Like with torch, the weights "starter" bring their own size, whatever the setting `image_size` is.
    """
    size_fits = settings.image_size in (None, starter_size())
    allowed = settings.backbone_weights == "starter" or (settings.backbone_weights == "auto" and size_fits)
    if allowed and has_starter(settings.backbone):
        return
    size = f", {settings.image_size} pixels" if settings.image_size else ""
    raise ConfigError(
        f"The first backbone ({settings.backbone}, weights {settings.backbone_weights}{size}) needs the extra `train`.",
        hint=f"{install_hint('train')}; or unset TAXONOMIST_BACKBONE, TAXONOMIST_BACKBONE_WEIGHTS and "
        "TAXONOMIST_IMAGE_SIZE to begin with the starter, which needs no torch.",
    )
