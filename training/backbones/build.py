"""A backbone with its start weights."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from taxonomist.inference.starter import has_starter
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.imagenet import UnreachableError, imagenet_weights
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import load_weights, read_weights, starter_weights

logger = logging.getLogger(__name__)

STARTER_ORIGIN = "ImageNet, as the starter"
_USE_STARTER = "unset TAXONOMIST_BACKBONE"


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone in evaluation mode; `origin` says in words where its weights come from."""

    module: Backbone
    origin: str


def build_backbone(spec: BackboneSpec) -> BuiltBackbone:
    """Return the backbone of `spec` with its start weights.

    Raises ConfigError when the architecture is not known or has no starter, TrainingError when the weights cannot be
    read or downloaded, or do not fit. That "auto" gives random weights is logged as a warning.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = Backbone(spec.architecture)
    origin = f"random, seed {spec.seed}"
    if spec.weights == "starter":
        check_starter(spec.architecture)
    if spec.weights in ("auto", "imagenet", "starter") and has_starter(spec.architecture):
        load_weights(module.encoder, starter_weights())
        origin = STARTER_ORIGIN
    elif spec.weights == "imagenet":
        try:
            load_weights(module.encoder, imagenet_weights(spec.architecture))
        except (UnreachableError, TrainingError) as reason:
            raise TrainingError(
                f"torchvision's ImageNet weights for {spec.architecture} are not available: {reason}",
                hint="Allow the download, or choose other start weights: TAXONOMIST_BACKBONE_WEIGHTS=random or a file; "
                f"or the starter, which ships: {_USE_STARTER}.",
            ) from reason
        origin = "torchvision ImageNet"
    elif spec.weights == "auto":
        logger.warning(
            "%s has no weights that ship: starting from random weights. Suggestions will be weak until the backbone "
            "has been pre-trained on your images. TAXONOMIST_BACKBONE_WEIGHTS=imagenet downloads some.",
            spec.architecture,
        )
    elif spec.weights != "random":
        load_weights(module.encoder, read_weights(Path(spec.weights)))
        origin = f"file {Path(spec.weights).name}"
    module.eval().set_size(spec.size)
    return BuiltBackbone(module, origin)


def check_starter(architecture: str) -> None:
    """Raise ConfigError when the starter has another architecture."""
    if not has_starter(architecture):
        raise ConfigError(
            f"There is no starter of the architecture {architecture}.",
            hint=f"{_USE_STARTER}. A pre-training that began from an earlier starter: taxonomist pretrain --fresh.",
        )
