"""Which backbone to start from. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone to start from.

    `architecture` is a name of `architectures`. `weights` are "starter" (those that ship, of its architecture only),
    "imagenet" (torchvision's, or the starter's where it has this architecture), "random" (seeded), a file
    (.safetensors, .pth), or "auto": the starter's, or random ones for another architecture. Only "imagenet" downloads
    anything. `size` is the side of an image in pixels.
    """

    architecture: str = "resnet18"
    weights: str = "auto"
    seed: int = 0
    size: int = 160
