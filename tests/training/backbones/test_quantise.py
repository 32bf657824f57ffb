"""Backbones in 8-bit integers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.storage.registry import ModelVersion
from taxonomist.training.backbones.quantise import quantise
from tests.images import shapes
from tests.training.conftest import SIZE, random_images

pytestmark = pytest.mark.slow


def test_a_quantised_backbone_embeds_alike_in_a_quarter_of_the_bytes(backbone: ModelVersion, tmp_path: Path) -> None:
    exact, small = backbone.path / BACKBONE_FILE, tmp_path / "small.onnx"
    images = np.concatenate([random_images(8), shapes()[:, :SIZE, :SIZE]])
    quantise(exact, small, images)
    assert small.stat().st_size < 0.3 * exact.stat().st_size
    ours, theirs = Embedder(small).embed(images[::2]), Embedder(exact).embed(images[::2])
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.mean() > 0.95


def test_weights_have_seven_bits_and_each_channel_its_scale(backbone: ModelVersion, tmp_path: Path) -> None:
    quantise(backbone.path / BACKBONE_FILE, tmp_path / "small.onnx", random_images(4))
    graph = onnx.load(tmp_path / "small.onnx").graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    weights = {name: array for name, array in arrays.items() if array.dtype == np.int8 and array.ndim == 4}
    assert len(weights) == 20  # the convolutions of a ResNet18
    for name, array in weights.items():
        assert np.abs(array.astype(int)).max() == 64
        assert arrays[name.removesuffix("_quantized") + "_scale"].shape == array.shape[:1]
    assert not any(node.doc_string or node.metadata_props for node in graph.node)
