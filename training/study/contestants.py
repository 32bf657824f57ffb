"""The contestants of a study: raw pixels, a torchvision ResNet with random or given weights, a published backbone."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.inference.starter import is_starter
from taxonomist.storage.registry import ModelVersion
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import WEIGHTS_FILE
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.devices import default_device
from taxonomist.training.study.data import Contestant, Pictures

_BATCH = 32


def pixels(side: int = 16) -> Contestant:
    """The pictures themselves, at side x side: what every embedding has to beat."""

    def embed(pictures: Pictures) -> npt.NDArray[np.float32]:
        small = [Image.fromarray(picture).resize((side, side), Image.Resampling.BOX) for picture in pictures]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])

    return Contestant("raw pixels", f"{side} x {side} pixels, averaged", embed)


def resnet(spec: BackboneSpec, name: str = "") -> Contestant:
    """A frozen ResNet with the weights of `spec`: random ones are the thesis' "supervised learning".

    Raises TrainingError when the weights cannot be had, as `build` does.
    """
    built = build_backbone(spec)
    label = "ImageNet" if spec.weights == "imagenet" else "random" if spec.weights == "random" else spec.weights
    origin = f"{spec.architecture} at {spec.size} pixels, {built.origin}"
    embed = TorchEmbed(built.module, spec.size)
    return Contestant(name or f"{label} {spec.architecture}", origin, embed, backbone=lambda: (built.module, spec.size))


def published(version: ModelVersion, name: str = "") -> Contestant:
    """A backbone of the registry, embedding as it does when it serves; with its weights where it can be fine-tuned."""
    manifest = version.manifest
    size = int(manifest["size"])
    embed = _OnnxEmbed(version, size)
    checksum = str(manifest.get("files", {}).get(BACKBONE_FILE, {}).get("sha256", ""))[:12]
    origin = ", ".join(filter(None, [f"{version.name} {version.version}", str(manifest.get("origin", "")), checksum]))

    def backbone() -> tuple[Backbone, int]:
        weights = "starter" if is_starter(version) else str(version.path / WEIGHTS_FILE)
        return build_backbone(BackboneSpec(manifest["architecture"], weights, size=size)).module, size

    tunable = is_starter(version) or (version.path / WEIGHTS_FILE).exists()
    return Contestant(name or f"backbone {version.version}", origin, embed, backbone=backbone if tunable else None)


@dataclass(frozen=True)
class TorchEmbed:
    """Embed with a torch module that takes pictures uint8 (n, size, size, 3), on the GPU where there is one."""

    module: torch.nn.Module
    size: int

    def __call__(self, pictures: Pictures) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of pictures of any size."""
        device = default_device()
        self.module.to(device).eval()
        rows = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _BATCH):
                batch = torch.from_numpy(at_size(pictures[start : start + _BATCH], self.size)).to(device)
                rows.append(self.module(batch).float().cpu().numpy())
        return np.concatenate(rows)


@dataclass(frozen=True)
class _OnnxEmbed:
    version: ModelVersion
    size: int

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.version.path / BACKBONE_FILE, self.size)

    def __call__(self, pictures: Pictures) -> npt.NDArray[np.float32]:
        return self._embedder.embed(at_size(pictures, self.size))


def at_size(pictures: Pictures, size: int) -> Pictures:
    """The pictures as uint8 (n, size, size, 3), resized as `prepare_image` does where they are larger or smaller."""
    if pictures.shape[1:3] == (size, size):
        return np.ascontiguousarray(pictures)
    return np.stack([prepare_image(Image.fromarray(picture), size) for picture in pictures])
