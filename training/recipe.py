"""The settings of a pre-training, and the presets that have names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from training.views import ViewOptions

Architecture = Literal["resnet18", "resnet34", "resnet50"]
MAX_AUTO_QUEUE = 65_536  # keys, as in the MoCo paper (He et al. 2020)


@dataclass(frozen=True)
class Recipe:
    """Everything that a pre-training's result depends on besides the pictures and the seed's luck.

    `size` is the side of a training view in pixels; with `sizes` it grows in equal shares of the steps up to that one.
    `epochs` counts passes over the pictures, one step sees `batch` of them. `queue` counts keys, 0 means `auto`.
    `positives` says what is pulled together: two views of one picture, or views of two pictures of one group.
    """

    architecture: Architecture = "resnet18"
    weights: str = "random"
    size: int = 128
    sizes: tuple[int, ...] = ()
    batch: int = 128
    epochs: int = 200
    lr: float = 6e-2
    sgd_momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.02  # share of the steps in which the learning rate rises
    temperature: float = 0.1
    queue: int = 0
    key_momentum: float = 0.99
    projection: int = 128
    hidden: int | None = None  # width of the projection head's hidden layer; None: the embedding's
    head_norm: bool = False  # batch norm in the projection head, as in MoCo v3
    optimiser: Literal["sgd", "adamw"] = "sgd"
    shuffle_groups: int = 4  # into which the keys of a batch are shuffled for batch norm
    symmetric: bool = False  # each view is query once and key once
    local_views: int = 0  # further, small views that are queries only ("multi-crop")
    local_size: int = 48
    positives: Literal["image", "group"] = "image"
    views: ViewOptions = field(default_factory=ViewOptions)
    seed: int = 0

    def queue_for(self, pictures: int) -> int:
        """Length of the queue; `auto` is the greatest power of two below half the pictures, so that most of what is in
        it are other pictures than those of the batch."""
        if self.queue:
            return self.queue
        below = max(pictures // 2 - 1, 2)
        return int(min(1 << (below.bit_length() - 1), MAX_AUTO_QUEUE))

    def with_changes(self, changes: Mapping[str, Any]) -> "Recipe":
        """A copy with those fields that are not None changed."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


PRESETS: Mapping[str, Recipe] = {
    "default": Recipe(),
    # Section 6.1 of the thesis; its transforms are those of MoCo v2, whose temperature is 0.2 and key momentum 0.999.
    "thesis": Recipe(
        size=100, queue=2048, lr=6e-2, weight_decay=5e-4, batch=128, epochs=100, temperature=0.2, key_momentum=0.999
    ),
    # Seconds long: to see whether everything is in its place.
    "smoke": Recipe(size=32, batch=32, epochs=2, queue=64),
}
