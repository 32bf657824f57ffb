"""The backbone as a torch module: images to embeddings."""

from itertools import pairwise
from typing import Any, cast

import timm
import torch
import torchvision
from torch import Tensor, nn

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import Architecture, get_architecture


class Backbone(nn.Module):
    """Images uint8 (n, size, size, 3) to embeddings float32 (n, dimension), with random weights at first.

    `encoder` is the library's network without its classifier; it takes normalised colours (n, 3, size, size). Raises
    ConfigError when the architecture is not registered.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture = get_architecture(architecture)
        self.dimension = self.architecture.dimension
        self.encoder = _network(self.architecture)
        if self.architecture.classifier:
            self.encoder.set_submodule(self.architecture.classifier, nn.Identity())
        # Not "mean": torch 2.6 gives a value of the exported graph that name, and a graph with two of one name cannot
        # be loaded.
        for name, values in (("pixel_mean", self.architecture.mean), ("pixel_std", self.architecture.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings float32 (n, dimension) of images uint8 (n, size, size, 3)."""
        embeddings: Tensor = self.encoder(self.normalise(images))
        return embeddings

    def normalise(self, images: Tensor) -> Tensor:
        """Return images uint8 (n, size, size, 3) as the encoder takes them: float32 (n, 3, size, size)."""
        return (images.permute(0, 3, 1, 2).float() - self.pixel_mean) / self.pixel_std

    def set_size(self, size: int) -> None:
        """Let the encoder take images of `size` pixels, after its weights are loaded.

        Raises ConfigError when it takes images of another size only.
        """
        if not self.architecture.fixed_size:
            return
        resize = getattr(self.encoder, "set_input_size", None)
        try:
            if resize is not None:
                resize(img_size=(size, size))
            with torch.inference_mode():
                self(torch.zeros((1, size, size, 3), dtype=torch.uint8))
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{self.architecture.name} does not take images of {size} pixels: {error}",
                hint="Choose another --size; a vision transformer needs a multiple of its patch.",
            ) from error

    def cut(self, blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the encoder in two parts, the second of which starts with the last `blocks` residual blocks.

        The first takes normalised images (n, 3, size, size), the second gives embeddings (n, dimension). Both share
        their weights with this module. Raises ConfigError when the encoder has fewer blocks.
        """
        parts = self.architecture
        if not parts.stages:
            raise ConfigError(
                f"{parts.name} cannot be fine-tuned, since its blocks are not known.",
                hint="Register the architecture, or choose a registered one.",
            )
        residual = [block for stage in parts.stages for block in self.encoder.get_submodule(stage).children()]
        if blocks > len(residual):
            raise ConfigError(
                f"{blocks} blocks are to be fine-tuned, but the backbone has {len(residual)}.",
                hint=f"Choose 1 to {len(residual)}.",
            )
        stem = [self.encoder.get_submodule(name) for name in parts.stem]
        end = [self.encoder.get_submodule(name) for name in parts.end]
        kept = len(residual) - blocks
        return nn.Sequential(*stem, *residual[:kept]), nn.Sequential(*residual[kept:], *end, nn.Flatten())


def _network(architecture: Architecture) -> nn.Module:
    """Return the network of an architecture with random weights."""
    network: nn.Module
    if architecture.library == "timm":
        network = timm.create_model(architecture.network, pretrained=False)
        if not architecture.classifier:
            cast(Any, network).reset_classifier(0)
    else:
        network = torchvision.models.get_model(architecture.network, weights=None)
    return network


def convolutions_and_norms(encoder: nn.Module) -> list[tuple[str, str]]:
    """Return the names of each convolution and the batch norm after it.

    torchvision and timm register the convolutions and batch norms of a block in the order in which they run.
    """
    pairs = []
    for prefix, block in encoder.named_modules():
        layers = [
            (name, layer) for name, layer in block.named_children() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
        ]
        for (name, layer), (next_name, next_layer) in pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                pairs.append((f"{prefix}.{name}".lstrip("."), f"{prefix}.{next_name}".lstrip(".")))
    return pairs
