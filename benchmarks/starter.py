"""Make the starter backbone from the weights of a pre-training: `python -m benchmarks.starter --help`.

Weights and activations become 8-bit integers; the ranges of the activations are read off a few hundred images. The
loss in quality is measured by `benchmarks.study`, which takes the starter as a contestant of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import safetensors.torch
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from benchmarks.catalogue import read_catalogue
from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import FOLDER, MANIFEST, STATISTICS
from taxonomist.training.backbones.backbone import Backbone, convolutions_and_norms
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import INPUT_NAME, export_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import load_weights, read_weights

_BATCH = 16


class _CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def quantise(module: Backbone, spec: BackboneSpec, images: NDArray[np.uint8], target: Path) -> None:
    """Write `module` as 8-bit ONNX, calibrated on `images`, uint8 (n, size, size, 3)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_backbone(module, folder, spec.size)
        quant_pre_process(str(folder / BACKBONE_FILE), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
        quantize_static(
            str(folder / "prepared.onnx"),
            str(folder / "small.onnx"),
            _CalibrationImages(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Add", "MaxPool"],
        )
        model = onnx.load(str(folder / "small.onnx"))
        for node in model.graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
        del model.graph.value_info[:]
        onnx.save(model, str(target))


def measure(spec: BackboneSpec, images: NDArray[np.uint8], target: Path) -> None:
    """Write mean and variance of the output of each convolution of the starter, over all images."""
    encoder = Backbone(spec.architecture).encoder
    norms = {norm: encoder.get_submodule(norm) for _, norm in convolutions_and_norms(encoder)}
    known = {f"{name}.running_mean": torch.zeros_like(norm.get_buffer("running_mean")) for name, norm in norms.items()}
    known |= {f"{name}.running_var": torch.ones_like(norm.get_buffer("running_var")) for name, norm in norms.items()}
    target.write_bytes(safetensors.torch.save(known))  # neutral statistics, for the first pass
    module = build_backbone(replace(spec, weights="starter")).module
    for name in norms:

        def hook(_module: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            known[f"{name}.running_var"], known[f"{name}.running_mean"] = torch.var_mean(inputs[0], (0, 2, 3))

        module.encoder.get_submodule(name).register_forward_pre_hook(hook)
    with torch.inference_mode():
        module(torch.from_numpy(images))
    target.write_bytes(safetensors.torch.save(known))


def main() -> None:
    """Quantise the backbone, and write its manifest beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path, help="the one it was pre-trained on: manifest.csv and images/")
    parser.add_argument("weights", type=Path, help="best.safetensors of the run")
    parser.add_argument("--summary", type=Path, required=True, help="summary.json of the run")
    parser.add_argument("--size", type=int, default=80, help="side of served images, in pixels")
    parser.add_argument("--folder", type=Path, default=Path(".study/recipes"), help="where prepared images are kept")
    arguments = parser.parse_args()
    spec = BackboneSpec(size=arguments.size)
    module = Backbone(spec.architecture)
    load_weights(module.encoder, read_weights(arguments.weights))
    images = np.array(read_catalogue(arguments.catalogue, spec.size, arguments.folder).of("pretrain").images[::9])
    FOLDER.mkdir(exist_ok=True)
    quantise(module.eval(), spec, images, FOLDER / BACKBONE_FILE)
    measure(spec, images[::2], FOLDER / STATISTICS)
    summary = json.loads(arguments.summary.read_text())
    manifest = {
        "architecture": spec.architecture,
        "size": spec.size,
        "dimension": module.dimension,
        "pictures_seen": summary["seen"],
        "recipe": summary["recipe"],
    }
    (FOLDER / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{FOLDER / BACKBONE_FILE}: {(FOLDER / BACKBONE_FILE).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
