"""The registry of architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from taxonomist.backend.settings import load_settings
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import Architecture, architecture_names, get_architecture, register
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.training.conftest import random_images


def test_unknown_architecture() -> None:
    with pytest.raises(ConfigError, match="resnet18"):
        build_backbone(BackboneSpec("alexnet"))


def test_every_architecture_is_described_as_its_library_builds_it() -> None:
    for name in architecture_names():
        module = Backbone(name).eval()
        images = torch.from_numpy(random_images(2, 32))
        with torch.inference_mode():
            embeddings = module(images)
            before, after = module.cut(1)
            torch.testing.assert_close(after(before(module.normalise(images))), embeddings)
        assert embeddings.shape == (2, get_architecture(name).dimension)


@pytest.mark.slow
def test_one_registration_is_all_that_an_architecture_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.training.backbones.architectures._REGISTERED", {})
    stages = tuple(f"trunk_output.block{number}" for number in (1, 2, 3, 4))
    regnet = Architecture("regnet_y_400mf", 440, ("stem",), stages, ("avgpool",), "fc", network="regnet_y_400mf")
    register(regnet)
    with pytest.raises(ValueError, match="registered already"):
        register(regnet)
    with pytest.raises(ConfigError, match="regnet_y_400mf"):
        build_backbone(BackboneSpec("resnet18"))
    with pytest.raises(ConfigError, match="must be regnet_y_400mf"):
        load_settings(backbone="resnet18")
    assert load_settings(backbone="regnet_y_400mf").backbone == "regnet_y_400mf"
    spec = BackboneSpec("regnet_y_400mf", "random", size=32)
    version = ensure_backbone(FolderRegistry(tmp_path), spec)
    module = build_backbone(spec).module
    images = torch.from_numpy(random_images(2, 32))
    with torch.inference_mode():
        expected = module(images)
        before, after = module.cut(16)  # all its blocks
        torch.testing.assert_close(after(before(module.normalise(images))), expected)
    found = Embedder(version.path / BACKBONE_FILE).embed(images.numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
    again = build_backbone(BackboneSpec("regnet_y_400mf", str(version.path / "backbone.safetensors"), size=32))
    assert all(
        torch.equal(a, b) for a, b in zip(again.module.state_dict().values(), module.state_dict().values(), strict=True)
    )
    with pytest.raises(ConfigError, match="17 blocks are to be fine-tuned, but the backbone has 16"):
        module.cut(17)
