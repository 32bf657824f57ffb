"""A backbone with its start weights."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from taxonomist.inference.starter import has_starter
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.backbone import Backbone, convolutions_and_norms
from taxonomist.training.backbones.imagenet import UnreachableError, imagenet_weights
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import load_weights, read_weights, starter_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone in evaluation mode; `origin` says in words where its weights come from."""

    module: Backbone
    origin: str


def build_backbone(spec: BackboneSpec) -> BuiltBackbone:
    """Return the backbone of `spec` with its start weights.

    Raises ConfigError when the architecture is not known or has no starter, TrainingError when the weights cannot be
    read or downloaded, or do not fit. With "auto" a failed download is logged as a warning, and the weights are random.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = Backbone(spec.architecture)
    origin = f"random, seed {spec.seed}"
    if spec.weights in ("auto", "imagenet"):
        try:
            load_weights(module.encoder, imagenet_weights(spec.architecture))
            origin = "torchvision ImageNet"
        except (UnreachableError, TrainingError) as reason:
            if spec.weights == "imagenet":
                raise TrainingError(
                    f"torchvision's ImageNet weights for {spec.architecture} are not available: {reason}",
                    hint="Allow the download, or choose other start weights: TAXONOMIST_BACKBONE_WEIGHTS=starter, "
                    "random or a file.",
                ) from reason
            logger.warning(
                "No ImageNet weights for %s (%s): starting from random weights. Suggestions will be weak until the "
                "backbone has been pre-trained on your images.",
                spec.architecture,
                reason,
            )
    elif spec.weights == "starter":
        check_starter(spec.architecture)
        load_weights(module.encoder, starter_weights(convolutions_and_norms(module.encoder)))
        origin = "the starter"
    elif spec.weights != "random":
        load_weights(module.encoder, read_weights(Path(spec.weights)))
        origin = f"file {Path(spec.weights).name}"
    return BuiltBackbone(module.eval(), origin)


def check_starter(architecture: str) -> None:
    """Raise ConfigError when there is no starter of that architecture."""
    if not has_starter(architecture):
        raise ConfigError(
            f"There is no starter of the architecture {architecture}.", hint="Set TAXONOMIST_BACKBONE=resnet18."
        )
