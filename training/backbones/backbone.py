"""The backbone: a torchvision ResNet without its last layer, exported for serving. Imported by training jobs only."""

import logging
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import has_starter, publish_starter
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TrainingError
from taxonomist.training.backbones.weights import Unreachable, imagenet_weights, read_weights, starter_weights

logger = logging.getLogger(__name__)

NAME = "backbone"
"""Its name in the registry."""

WEIGHTS_FILE = "backbone.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in 0..1, as torchvision's weights expect."""

_EXPORTING = threading.Lock()  # torch traces with global state: two exports in one process break each other
_OPSET = 18  # what torch 2.6 can write and onnxruntime 1.18 can read


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone to start from.

    `weights`: "imagenet" (torchvision's), "starter" (`inference.starter`), "random" (seeded), a file (.safetensors,
    .pth), or "auto": ImageNet's where they can be had, else random. `size` is the side of the pictures in pixels.
    """

    architecture: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    weights: str = "auto"
    seed: int = 0
    size: int = 160


class Backbone(nn.Module):
    """Pictures uint8 (n, size, size, 3) to embeddings float32 (n, dimension); 512, or 2048 for resnet50."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, architecture: str) -> None:
        super().__init__()
        encoder = torchvision.models.get_model(architecture, weights=None)
        self.dimension: int = encoder.fc.in_features
        encoder.fc = nn.Identity()
        self.encoder: nn.Module = encoder
        # Not "mean": torch 2.6 gives a value of the exported graph that name, and two of a name cannot be loaded.
        for name, values in (("pixel_mean", MEAN), ("pixel_std", STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float()  # (n, 3, size, size)
        embeddings: Tensor = self.encoder((x - self.pixel_mean) / self.pixel_std)
        return embeddings


@dataclass(frozen=True)
class Built:
    """A backbone in evaluation mode; `origin` says in words where its weights come from."""

    module: Backbone
    origin: str


def build(spec: BackboneSpec) -> Built:
    """The backbone of `spec`.

    Raises ConfigError when the architecture is not known, TrainingError when the weights that were asked for cannot be
    had or do not fit. With "auto" that is a warning in the log instead, and the weights are random.
    """
    if spec.architecture not in ("resnet18", "resnet34", "resnet50"):
        raise ConfigError(
            f'The backbone "{spec.architecture}" is not known.', hint="Choose resnet18, resnet34 or resnet50."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = Backbone(spec.architecture)
    origin = f"random, seed {spec.seed}"
    if spec.weights in ("auto", "imagenet"):
        try:
            load_weights(module, imagenet_weights(spec.architecture))
            origin = "torchvision ImageNet"
        except (Unreachable, TrainingError) as reason:
            if spec.weights == "imagenet":
                raise TrainingError(
                    f"torchvision's ImageNet weights for {spec.architecture} cannot be had: {reason}",
                    hint='Allow the download, or set the start weights to a file or to "random".',
                ) from reason
            logger.warning(
                "No ImageNet weights for %s (%s): starting from random weights. Suggestions will be weak until the "
                "backbone has been pre-trained on your pictures.",
                spec.architecture,
                reason,
            )
    elif spec.weights == "starter":
        _check_starter(spec.architecture)
        load_weights(module, starter_weights(convolutions_and_norms(module.encoder)))
        origin = "the starter"
    elif spec.weights != "random":
        load_weights(module, read_weights(Path(spec.weights)))
        origin = f"file {Path(spec.weights).name}"
    return Built(module.eval(), origin)


def _check_starter(architecture: str) -> None:
    if not has_starter(architecture):
        raise ConfigError(f"There is no starter of the architecture {architecture}.", hint="Use resnet18.")


def load_weights(module: Backbone, state: Mapping[str, Tensor]) -> None:
    """Put the weights of a ResNet into `module`, whatever prefix they were saved under; a last layer is left out.

    Raises TrainingError, and leaves the module as it was, when they are not those of its architecture.
    """
    # torchvision saves "conv1.weight", we "encoder.conv1.weight", MoCo "module.encoder_q.conv1.weight", ...
    prefixes = sorted(
        (
            key.removesuffix("conv1.weight")
            for key in state
            if f".{key}".endswith(".conv1.weight") and ".layer" not in f".{key}"
        ),
        key=len,
    )
    prefix = prefixes[0] if prefixes else ""
    wanted = module.encoder.state_dict()
    found = {name: state[prefix + name] for name in wanted if prefix + name in state}
    # Older checkpoints lack the counters of batch norm, which evaluation does not use.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    wrong = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if missing or wrong:
        example = (missing + wrong)[0]
        raise TrainingError(
            f"The weights do not fit the backbone: {len(missing)} arrays are missing and {len(wrong)} have another "
            f'shape, "{example}" for one.',
            hint="Set the architecture that the weights were trained with.",
        )
    module.encoder.load_state_dict({**wanted, **found})


def export(module: Backbone, folder: Path, spec: BackboneSpec) -> None:
    """Write `backbone.onnx` (fp32, any batch size, normalisation inside) and `backbone.safetensors` into `folder`."""
    module = module.eval()
    frozen = _without_batch_norm(module)
    example = torch.zeros((2, spec.size, spec.size, 3), dtype=torch.uint8)
    with _EXPORTING:
        torch.onnx.export(
            frozen,
            (example,),
            str(folder / BACKBONE_FILE),
            dynamo=True,
            input_names=["pictures"],
            output_names=["embeddings"],
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch")}},
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(state, metadata={"architecture": spec.architecture}))


def _without_batch_norm(module: Backbone) -> Backbone:
    """A copy whose batch norms are folded into the convolutions before them, which is what they amount to in serving.

    onnxruntime would do it anyway; done here, since torch 2.6 cannot export a batch norm with a recent onnxscript.
    """
    copy = deepcopy(module)
    for conv, norm in convolutions_and_norms(copy.encoder):
        first, second = copy.encoder.get_submodule(conv), copy.encoder.get_submodule(norm)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        copy.encoder.set_submodule(conv, fuse_conv_bn_eval(first, second))
        copy.encoder.set_submodule(norm, nn.Identity())
    return copy


def convolutions_and_norms(encoder: nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution and the batch norm after it.

    torchvision registers a ResNet's layers in the order in which they run, but for the shared ReLU.
    """
    pairs = []
    for prefix, block in encoder.named_modules():
        layers = [each for each in block.named_children() if isinstance(each[1], nn.Conv2d | nn.BatchNorm2d)]
        for (name, first), (next_name, second) in pairwise(layers):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                pairs.append((f"{prefix}.{name}".lstrip("."), f"{prefix}.{next_name}".lstrip(".")))
    return pairs


def publish_backbone(registry: Registry, built: Built, spec: BackboneSpec) -> ModelVersion:
    """Export `built` as a new version of the backbone, not yet the champion."""
    with registry.stage(NAME) as folder:
        export(built.module, folder, spec)
        manifest = {
            "kind": "backbone",
            "architecture": spec.architecture,
            "size": spec.size,
            "dimension": built.module.dimension,
            "origin": built.origin,
            "settings": asdict(spec),
            "torch": torch.__version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(NAME, folder, manifest)


def ensure_backbone(registry: Registry, spec: BackboneSpec, *, or_starter: bool = False) -> ModelVersion:
    """The champion of the backbones; the first time, one made from `spec`.

    With `or_starter` the starter, whatever its size, takes the place of random weights where ImageNet's cannot be had.
    A champion that is there stays, whatever `spec` says: heads and embeddings belong to it. Processes that come at the
    same time agree on the first version published. Raises what `build` and the registry raise.
    """
    champion = registry.champion(NAME)
    if champion is None:
        if not registry.versions(NAME):
            _publish_first(registry, spec, or_starter=or_starter)
        versions = registry.versions(NAME)
        if not versions:
            raise NotFoundError("The backbone that was just published is not in the registry.")
        champion = versions[0].version
        registry.promote(NAME, champion)
    version = registry.get(NAME, champion)
    asked = {"architecture": spec.architecture} | ({} if or_starter else {"size": spec.size})
    made = {key: version.manifest.get(key) for key in asked}
    if made != asked:
        logger.warning("The settings ask for the backbone %s, the one in use is %s and stays.", asked, made)
    return version


def _publish_first(registry: Registry, spec: BackboneSpec, *, or_starter: bool) -> None:
    if spec.weights == "starter":
        _check_starter(spec.architecture)
        publish_starter(registry, NAME)
        return
    if not (or_starter and spec.weights == "auto" and has_starter(spec.architecture)):
        publish_backbone(registry, build(spec), spec)
        return
    try:
        built = build(replace(spec, weights="imagenet"))
    except TrainingError as reason:
        logger.warning("%s The starter serves until the backbone has been pre-trained on your pictures.", reason)
        publish_starter(registry, NAME)
    else:
        publish_backbone(registry, built, spec)
