"""Which backbone to start from. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone to start from.

    `architecture` is a name of `architectures`. `weights` are "imagenet" (torchvision's), "starter"
    (`inference.starter`), "random" (seeded), a file (.safetensors, .pth), or "auto": ImageNet's where they are
    available, else random. `size` is the side of an image in pixels.
    """

    architecture: str = "resnet18"
    weights: str = "auto"
    seed: int = 0
    size: int = 160
