"""The start weights of a pre-training."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from taxonomist.backend.pretraining.state import pretraining_folder
from taxonomist.backend.services import Services
from taxonomist.inference.starter import is_starter
from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import WEIGHTS_FILE
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.pretraining.recipe import Recipe

log = logging.getLogger(__name__)

_NAMES = ("auto", "imagenet", "starter", "random")


def with_start_weights(services: Services, recipe: Recipe) -> Recipe:
    """Return the recipe with start weights that later promotions and deletions do not change.

    A file is copied. "champion" becomes a copy of the weights of the backbone that is served, or "starter" if that is
    served. It becomes "auto" if the served backbone has another architecture or no weights that can be trained. Raises
    `ConfigError` or `TrainingError` when the weights are not available or do not fit.
    """
    weights = recipe.weights
    if weights == "champion":
        weights = _of_champion(services, recipe.architecture)
    elif weights not in _NAMES:
        if not Path(weights).is_file():
            raise ConfigError(
                f"There are no start weights '{weights}'.", hint=f"Give champion, {', '.join(_NAMES)} or a file."
            )
        weights = _copy(services, Path(weights), Path(weights).name)
    origin = build_backbone(BackboneSpec(recipe.architecture, weights, recipe.seed, recipe.size)).origin
    log.info("start weights: %s", origin)
    return recipe.with_changes({"weights": weights})


def is_readable(weights: str) -> bool:
    """Return whether this process can read the start weights of a run that another process has started."""
    return weights in _NAMES or Path(weights).is_file()


def _of_champion(services: Services, architecture: str) -> str:
    champion = services.backbone()
    if champion is None or champion.backbone_manifest.architecture != architecture:
        return "auto"
    if not (champion.path / WEIGHTS_FILE).exists():
        return "starter" if is_starter(champion) else "auto"
    services.registry.verify(champion, WEIGHTS_FILE)
    return _copy(services, champion.path / WEIGHTS_FILE, f"backbone-{champion.version}.safetensors")


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
