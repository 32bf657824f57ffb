"""An encoder that learns in a moment, for what does not depend on how good it is."""

from types import SimpleNamespace

import torch
from torch import nn

from taxonomist.training.backbones.spec import BackboneSpec


def small_backbone(spec: BackboneSpec) -> SimpleNamespace:
    """Return a small backbone; replaces `taxonomist.training.backbones.build.build_backbone`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        layers: list[nn.Module] = []
        for before, after in ((3, 8), (8, 16)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SimpleNamespace(module=SimpleNamespace(encoder=encoder, dimension=16), origin="a small one")
