"""The start weights of a pre-training."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from taxonomist.backend.pretraining.state import pretraining_folder
from taxonomist.backend.services import Services
from taxonomist.inference.starter import starter_architecture
from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import WEIGHTS_FILE
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import architecture_of
from taxonomist.training.pretraining.recipe import Recipe

log = logging.getLogger(__name__)

_NAMES = ("auto", "imagenet", "starter", "random")


def with_start_weights(services: Services, recipe: Recipe) -> Recipe:
    """Return the recipe with start weights that later promotions and deletions do not change.

    A file is copied. "champion" becomes a copy of the weights of the backbone that is served, or "auto" before there
    is one. Where the setting `backbone` is unset, the start weights decide the architecture: the champion's, the
    starter's, or the one that a file names. Raises `ConfigError` or `TrainingError` when the weights are not available
    or do not fit; nothing else takes their place.
    """
    weights = recipe.weights
    architecture: str | None = None
    if weights == "champion":
        architecture, weights = _of_champion(services)
    elif weights == "starter":
        architecture = starter_architecture()
    elif weights not in _NAMES:
        if not Path(weights).is_file():
            raise ConfigError(
                f"There are no start weights '{weights}'.", hint=f"Give champion, {', '.join(_NAMES)} or a file."
            )
        weights = _copy(services, Path(weights), Path(weights).name)
        architecture = architecture_of(Path(weights))
    if "backbone" not in services.settings.model_fields_set:
        recipe = recipe.with_changes({"architecture": architecture})
    if get_architecture(recipe.architecture).fixed_size:
        raise ConfigError(
            f"{recipe.architecture} takes images of one size only, and a pre-training needs views of several sizes.",
            hint="Name the weights of a convolutional network with --weights, such as starter.",
        )
    origin = build_backbone(BackboneSpec(recipe.architecture, weights, recipe.seed, recipe.size)).origin
    log.info("start weights: %s", origin)
    return recipe.with_changes({"weights": weights})


def is_readable(weights: str) -> bool:
    """Return whether this process can read the start weights of a run that another process has started."""
    return weights in _NAMES or Path(weights).is_file()


def _of_champion(services: Services) -> tuple[str, str]:
    """Return the architecture and the start weights that the backbone that is served gives."""
    settings, champion = services.settings, services.backbone()
    if champion is None:
        return settings.backbone, "auto"
    architecture = champion.backbone_manifest.architecture
    others = "Name other start weights with --weights or TAXONOMIST_PRETRAIN_WEIGHTS: starter, imagenet, random, a file"
    if "backbone" in settings.model_fields_set and settings.backbone != architecture:
        raise ConfigError(
            f"The backbone that is served is of the architecture {architecture}, so a {settings.backbone} cannot start "
            "from its weights.",
            hint=f"{others}; or unset TAXONOMIST_BACKBONE.",
        )
    if WEIGHTS_FILE not in champion.files:
        raise ConfigError(
            f"The backbone that is served, {champion.version}, is an ONNX file without weights that can be trained.",
            hint=f"{others}.",
        )
    services.registry.verify(champion, WEIGHTS_FILE)
    return architecture, _copy(services, champion.path / WEIGHTS_FILE, f"backbone-{champion.version}.safetensors")


def _copy(services: Services, source: Path, name: str) -> str:
    folder = pretraining_folder(services.settings.home) / "start"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / "part")
        (folder / "part").replace(folder / name)
        for other in folder.iterdir():
            if other.name != name:
                other.unlink()
    return str(folder / name)
