"""The first stages of a network stay as they are while the others are trained."""

from types import MethodType

from torch import nn

from taxonomist.training.backbones.architectures import Architecture


def freeze_first_stages(encoder: nn.Module, architecture: Architecture, share: float) -> None:
    """Freeze the stem of an encoder and this share of its stages, rounded down, with the statistics of their batch
    norms. Copies of the encoder are frozen, too.
    """
    count = int(share * len(architecture.stages) + 1e-9)
    for name in (*architecture.stem, *architecture.stages[:count]):
        layer = encoder.get_submodule(name).requires_grad_(False).eval()
        layer.train = MethodType(_stay, layer)  # type: ignore[method-assign]


def _stay(layer: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 - as nn.Module.train
    return layer
