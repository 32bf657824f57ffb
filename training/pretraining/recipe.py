"""The settings of a pre-training, and the presets that have names. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

MAX_AUTO_QUEUE = 65_536  # keys, as in the MoCo paper (He et al. 2020)


@dataclass(frozen=True)
class ViewOptions:
    """What a view may differ in. The defaults are those of MoCo v2 (Chen et al. 2020).

    Shares are probabilities; scales are shares of the picture's area; sigma is in pixels of the view.
    """

    min_scale: float = 0.2
    max_scale: float = 1.0
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    degrees: float = 90.0
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.5
    min_sigma: float = 0.1
    max_sigma: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """Everything that a pre-training's result depends on besides the pictures and the seed's luck.

    `size` is the side of a training view in pixels; with `sizes` it grows in equal shares of the steps up to that one.
    `served` is the side of the pictures that views are cut from, and that the backbone gets when it serves: larger than
    a view, since a view shows a part of the picture at the same scale (Touvron et al. 2019).
    `weights` are what it starts from, as in `BackboneSpec`. Some presets have "champion", for the
    backbone that is served: `backend.pretraining.start_weights` puts its weights in that place.
    `epochs` counts passes over the pictures, one step sees `batch` of them. `queue` counts keys, 0 means `auto`.
    `positives` says what is pulled together: two views of one picture, or views of two pictures of one group.
    """

    architecture: str = "resnet18"
    weights: str = "random"
    size: int = 128
    served: int = 160
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

    def served_at(self, size: int) -> "Recipe":
        """The same for pictures of another size: all views grow or shrink with it."""
        if size == self.served:
            return self
        sides = {name: round(getattr(self, name) * size / self.served) for name in ("size", "local_size")}
        sizes = tuple(round(side * size / self.served) for side in self.sizes)
        return replace(self, served=size, sizes=sizes, **sides)

    def with_changes(self, changes: Mapping[str, Any]) -> "Recipe":
        """A copy with those fields that are not None changed."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


_LEARNS_FAST = Recipe(
    weights="champion",
    batch=64,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.05,
    temperature=0.2,
    head_norm=True,
    shuffle_groups=2,
    positives="group",
)
PRESETS: Mapping[str, Recipe] = {
    # For a GPU.
    "default": replace(_LEARNS_FAST, views=ViewOptions(min_scale=0.4)),
    # The same on pictures of half the side, most of the time on views of a quarter of it.
    "cpu": replace(_LEARNS_FAST, size=64, served=80, sizes=(32, 32, 32, 48), views=ViewOptions(min_scale=0.4)),
    # Section 6.1 of the thesis; its transforms are those of MoCo v2, whose temperature is 0.2 and key momentum 0.999.
    "thesis": Recipe(
        size=100,
        served=128,
        queue=2048,
        lr=6e-2,
        weight_decay=5e-4,
        batch=128,
        epochs=100,
        temperature=0.2,
        key_momentum=0.999,
    ),
    # Seconds long: to see whether everything is in its place.
    "smoke": Recipe(size=32, served=32, batch=32, epochs=2, queue=64),
}
