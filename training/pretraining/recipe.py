"""The settings of a pre-training, and named presets of them. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

Precision = Literal["auto", "32", "bf16"]
"""The number format of a training: single precision, bfloat16 where it is safe, or what suits the machine."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

MAX_AUTO_QUEUE = 65_536  # keys, as in the MoCo paper, https://arxiv.org/abs/1911.05722


@dataclass(frozen=True)
class ViewOptions:
    """How a view may differ from its image. The defaults are those of MoCo v2, https://arxiv.org/abs/2003.04297.

    Flips, `rotation`, `jitter`, `grey` and `blur` are probabilities; scales are shares of the image's area; brightness,
    contrast and saturation change by a factor of 1 - x to 1 + x, hue by -x to x of a whole turn; `degrees` is the
    largest angle of a rotation; sigma is in pixels of the view.
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
    """Everything that the result of a pre-training depends on besides the images.

    `architecture` is a name of `backbones.architectures`. `weights` are the start weights, as in `BackboneSpec`. Some
    presets have "champion", for the backbone that is served: `backend.pretraining.start_weights` replaces it.

    `size` is the side of a training view in pixels; with `sizes` it grows in equal shares of the steps up to `size`.
    `served` is the side of the images that views are cut from, and that the backbone gets when it serves: larger than
    a view, since a view shows a part of the image at the same scale (Touvron et al. 2019, Fixing the train-test
    resolution discrepancy, https://arxiv.org/abs/1906.06423).

    `epochs` counts passes over the images, one step sees `batch` of them. `queue` counts keys, 0 means automatic.
    `frozen` is the share of the stages, the first ones with the stem, that keep their start weights; random ones are
    always trained.

    A positive pair (`positives`) is two views of one image, or views of two images of one group; "mixed" is either in
    half of the cases.
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
    hidden: int | None = None  # width of the projection head's hidden layer; None: that of the embedding
    head_norm: bool = False  # batch norm in the projection head, as in MoCo v3
    optimiser: Literal["sgd", "adamw"] = "sgd"
    shuffle_groups: int = 4  # into which the keys of a batch are shuffled for batch norm
    symmetric: bool = False  # each view is a query once and a key once
    local_views: int = 0  # further, smaller views that are queries only ("multi-crop")
    local_size: int = 48
    positives: Literal["image", "group", "mixed"] = "image"
    views: ViewOptions = field(default_factory=ViewOptions)
    frozen: float = 0.0
    seed: int = 0

    def queue_for(self, images: int) -> int:
        """Return the number of keys in the queue for a number of images.

        The automatic one is the greatest power of two below half of it, so that most keys are of other images than
        those of the batch.
        """
        if self.queue:
            return self.queue
        below = max(images // 2 - 1, 2)
        return int(min(1 << (below.bit_length() - 1), MAX_AUTO_QUEUE))

    def served_at(self, size: int) -> "Recipe":
        """Return the recipe for served images of another size in pixels: all views grow or shrink with it."""
        if size == self.served:
            return self
        sides = {name: round(getattr(self, name) * size / self.served) for name in ("size", "local_size")}
        sizes = tuple(round(side * size / self.served) for side in self.sizes)
        return replace(self, served=size, sizes=sizes, **sides)

    def with_changes(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return a copy with those of the `changes` that are not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


# Settings and their gain: benchmarks/results/2026-11-28-recipes.md.
_DEFAULT = Recipe(
    weights="champion",
    batch=64,
    epochs=60,
    optimiser="adamw",
    lr=3e-4,
    weight_decay=0.05,
    temperature=0.2,
    head_norm=True,
    shuffle_groups=2,
    positives="group",
    views=ViewOptions(min_scale=0.4),
    frozen=0.6,
)
PRESETS: Mapping[str, Recipe] = {
    # For a GPU.
    "default": _DEFAULT,
    # The same, shorter: for a machine without a GPU.
    "cpu": replace(_DEFAULT, epochs=10),
    # Section 6.1 of the thesis; views, temperature and key momentum are those of MoCo v2.
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
    # Seconds long: to check an installation.
    "smoke": Recipe(size=32, served=32, batch=32, epochs=2, queue=64),
}
