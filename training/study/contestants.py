"""The contestants of a study: raw pixels, a torchvision ResNet with random or given weights, a published backbone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import WEIGHTS_FILE
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.devices import default_device
from taxonomist.training.study.labelled_images import Images

Embed = Callable[[Images], npt.NDArray[np.float32]]
"""From n images to their embeddings (n, d)."""

_BATCH = 32


@dataclass(frozen=True)
class Contestant:
    """One way to embed images and to train on the embeddings.

    `origin` says exactly what embeds (version, checksum, seed): contestants of one origin share their embeddings, and
    finished results are reused for the same origin only. `oversample`: level-1 classes are drawn equally often in
    training. `fine_tune`: that many of the last residual blocks are trained, too; 0 keeps all frozen. For that
    `backbone` returns the module and the side of its images in pixels. Raises ConfigError when it is missing.
    """

    name: str
    origin: str
    embed: Embed
    oversample: bool = False
    fine_tune: int = 0
    backbone: Callable[[], tuple[Backbone, int]] | None = None

    def __post_init__(self) -> None:
        if self.fine_tune and self.backbone is None:
            raise ConfigError(
                f"{self.name} cannot be fine-tuned: it comes without the weights of a ResNet.",
                hint="Leave --fine-tune out, or choose another version.",
            )

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^\w.]+", "-", self.name.lower()).strip("-.")

    def differs_in_oversampling(self, other: "Contestant") -> bool:
        """Return whether the two differ in oversampling alone."""
        same = (self.origin, self.fine_tune) == (other.origin, other.fine_tune)
        return same and self.oversample != other.oversample


def pixels(side: int = 16) -> Contestant:
    """Return the images themselves, at side x side pixels: the minimum that every embedding has to beat."""

    def embed(images: Images) -> npt.NDArray[np.float32]:
        small = [Image.fromarray(image).resize((side, side), Image.Resampling.BOX) for image in images]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])

    return Contestant("raw pixels", f"{side} x {side} pixels, averaged", embed)


def resnet(spec: BackboneSpec, name: str = "") -> Contestant:
    """Return a frozen ResNet with the weights of `spec`; random ones are the thesis' "supervised learning".

    Raises TrainingError when the weights are not available, as `build_backbone` does.
    """
    built = build_backbone(spec)
    label = "ImageNet" if spec.weights == "imagenet" else "random" if spec.weights == "random" else spec.weights
    origin = f"{spec.architecture} at {spec.size} pixels, {built.origin}"
    embed = TorchEmbed(built.module, spec.size)
    return Contestant(name or f"{label} {spec.architecture}", origin, embed, backbone=lambda: (built.module, spec.size))


def published(version: ModelVersion, name: str = "") -> Contestant:
    """Return a backbone of the registry, which embeds as in serving, and has its weights where it can be fine-tuned."""
    manifest = version.backbone_manifest
    size = manifest.size
    embed = _OnnxEmbed(version, size)
    checksum = version.files[BACKBONE_FILE].sha256[:12] if BACKBONE_FILE in version.files else ""
    origin = ", ".join(filter(None, [f"{version.name} {version.version}", manifest.origin, checksum]))

    def backbone() -> tuple[Backbone, int]:
        weights = str(version.path / WEIGHTS_FILE)
        return build_backbone(BackboneSpec(manifest.architecture, weights, size=size)).module, size

    tunable = (version.path / WEIGHTS_FILE).exists()
    return Contestant(name or f"backbone {version.version}", origin, embed, backbone=backbone if tunable else None)


@dataclass(frozen=True)
class TorchEmbed:
    """Embeds with a torch module that takes images uint8 (n, size, size, 3), on the GPU where there is one."""

    module: torch.nn.Module
    size: int

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """Return embeddings (n, d) of images of any size."""
        device = default_device()
        self.module.to(device).eval()
        embeddings = []
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = torch.from_numpy(at_size(images[start : start + _BATCH], self.size)).to(device)
                embeddings.append(self.module(batch).float().cpu().numpy())
        return np.concatenate(embeddings)


@dataclass(frozen=True)
class _OnnxEmbed:
    version: ModelVersion
    size: int

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.version.path / BACKBONE_FILE, self.size)

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        return self._embedder.embed(at_size(images, self.size))


def at_size(images: Images, size: int) -> Images:
    """Return the images as uint8 (n, size, size, 3), resized as by `prepare_image` where they have another size."""
    if images.shape[1:3] == (size, size):
        return np.ascontiguousarray(images)
    return np.stack([prepare_image(Image.fromarray(image), size) for image in images])
