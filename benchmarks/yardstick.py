"""The yardstick of the study: EfficientNet-Lite0 with ImageNet's weights, which are the starter's, in float32."""

from __future__ import annotations

import hashlib
from pathlib import Path

from taxonomist.inference.starter import FOLDER, WEIGHTS_FILE, starter_architecture
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.weights import load_weights, read_weights
from taxonomist.training.study.contestants import Contestant, TorchEmbed

LITE0 = starter_architecture()
IMAGENET_WEIGHTS = FOLDER / WEIGHTS_FILE


def efficientnet_lite0(size: int = 160, weights: Path | None = None) -> Contestant:
    """Return the contestant; `weights` is the file of a pre-training that started from ImageNet's."""
    module, name = Backbone(LITE0), "ImageNet EfficientNet-Lite0"
    origin = f"the starter's weights at {size} pixels"
    load_weights(module.encoder, read_weights(weights or IMAGENET_WEIGHTS))
    if weights is not None:
        name, origin = f"{name}, MoCo v2", f"{origin}, {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"
    return Contestant(name, origin, TorchEmbed(module.eval(), size))
