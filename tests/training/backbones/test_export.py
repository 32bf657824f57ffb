"""The exported backbone computes what the torch module computes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import DamagedError, ImageDecodingError
from taxonomist.training.backbones.architectures import architecture_names, get_architecture
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.training.conftest import SIZE, SPEC, random_images


@pytest.mark.parametrize("count", [1, 3, 17, 33])
def test_torch_and_onnxruntime_agree(backbone: ModelVersion, count: int) -> None:
    with torch.inference_mode():
        expected = build_backbone(SPEC).module(torch.from_numpy(random_images(count))).numpy()
    found = Embedder(backbone.path / BACKBONE_FILE, SIZE, threads=1).embed(random_images(count))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in architecture_names() if name != SPEC.architecture])
def test_every_other_architecture(tmp_path: Path, architecture: str) -> None:
    spec = BackboneSpec(architecture, "random", size=32)
    version = ensure_backbone(FolderRegistry(tmp_path), spec)
    with torch.inference_mode():
        expected = build_backbone(spec).module(torch.from_numpy(random_images(2, 32))).numpy()
    embedder = Embedder(version.path / BACKBONE_FILE)
    assert (embedder.size, embedder.dimension) == (32, get_architecture(architecture).dimension)
    # Relative: the values of a random resnet50 are in the hundreds.
    np.testing.assert_allclose(
        embedder.embed(random_images(2, 32)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_embedder_refuses_what_does_not_fit(backbone: ModelVersion, tmp_path: Path) -> None:
    embedder = Embedder(backbone.path / BACKBONE_FILE)
    assert embedder.embed(random_images(0)).shape == (0, 512)
    for wrong in (random_images(1, 32), random_images(1)[0], random_images(1).astype(np.float32)):
        with pytest.raises(ImageDecodingError):
            embedder.embed(wrong)  # type: ignore[arg-type]
    with pytest.raises(DamagedError, match="160"):
        Embedder(backbone.path / BACKBONE_FILE, 160)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((backbone.path / BACKBONE_FILE).read_bytes()[:1000])
    with pytest.raises(DamagedError, match="onnxruntime"):
        Embedder(damaged)


def test_model_is_for_any_supported_onnxruntime(backbone: ModelVersion) -> None:

    model = onnx.load(backbone.path / BACKBONE_FILE)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import}.get("") == 18
    assert model.ir_version <= 10, "onnxruntime 1.18 reads IR version 10 at most"
    assert onnxruntime.InferenceSession(backbone.path / BACKBONE_FILE).get_inputs()[0].type == "tensor(uint8)"
