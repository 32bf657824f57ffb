"""Quantisation of an exported backbone to integers of 8 bits."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_BATCH = 16


def quantise(source: Path, target: Path, images: npt.NDArray[np.uint8]) -> None:
    """Write the backbone `source`, ONNX in float32, to `target` with weights and activations in 8-bit integers.

    Quantisation is static: the ranges of the activations are those on `images`, uint8 (n, size, size, 3); 200 are
    enough. Each output channel of a convolution has a scale of its own (Krishnamoorthi 2018,
    https://arxiv.org/abs/1806.08342). Weights use 7 of the 8 bits: where a CPU lacks the instructions VNNI, sums of
    products of 8 bits overflow (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
    """
    (source_input,) = onnx.load(source, load_external_data=False).graph.input
    with tempfile.TemporaryDirectory() as name:
        prepared, quantised = Path(name) / "prepared.onnx", Path(name) / "quantised.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            _Batches(source_input.name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(quantised)
    for node in model.graph.node:  # they have paths of the machine that exported it
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    del model.graph.value_info[:]
    onnx.save(model, target)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """The images in batches, as onnxruntime's calibration reads them."""

    def __init__(self, name: str, images: npt.NDArray[np.uint8]) -> None:
        self._name = name
        self._batches: Iterator[npt.NDArray[np.uint8]] = iter(
            [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        )

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
