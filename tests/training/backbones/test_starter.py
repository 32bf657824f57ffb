import hashlib
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.images import shapes


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return cache


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.uint8]:
    return shapes()


def test_a_training_can_go_on_from_it(images: npt.NDArray[np.uint8]) -> None:
    """The single-precision starter agrees with the 8-bit one, and nearly so with the statistics of the batch."""
    served = Embedder(FOLDER / BACKBONE_FILE, size=80).embed(images)
    built = build_backbone(BackboneSpec(weights="starter", size=80))
    assert built.origin == "the starter"
    with torch.inference_mode():
        exact = built.module(torch.from_numpy(images)).numpy()
        built.module.train()
        training = built.module(torch.from_numpy(images)).numpy()
    assert (unit(exact) * unit(served)).sum(1).min() > 0.99
    assert 0.5 < np.linalg.norm(training) / np.linalg.norm(exact) < 2
    assert (unit(training) * unit(exact)).sum(1).mean() > 0.8
    with pytest.raises(ConfigError, match="resnet34"):
        build_backbone(BackboneSpec("resnet34", "starter"))


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def test_it_serves_where_imagenet_cannot_be_had(
    tmp_path: Path, no_network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(), or_starter=True)
    assert version.backbone_manifest.origin.startswith("the starter")
    assert version.backbone_manifest.size == 80
    assert "The starter serves until" in caplog.text
    shipped = hashlib.sha256((FOLDER / BACKBONE_FILE).read_bytes()).hexdigest()
    assert version.files[BACKBONE_FILE].sha256 == shipped


@pytest.mark.slow
def test_imagenet_comes_before_it(tmp_path: Path, no_network: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), no_network / "resnet18-f37072fd.pth")
    version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(size=64), or_starter=True)
    assert version.backbone_manifest.origin == "torchvision ImageNet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "or_starter"),
    [(BackboneSpec(weights="random", size=64), True), (BackboneSpec(size=64), False)],
    ids=["random weights were asked for", "a size was asked for"],
)
def test_random_weights_else(tmp_path: Path, no_network: Path, spec: BackboneSpec, or_starter: bool) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), spec, or_starter=or_starter)
    assert version.backbone_manifest.origin == "random, seed 0"


def test_it_can_be_chosen(tmp_path: Path) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(weights="starter"), or_starter=True)
    assert version.backbone_manifest.origin.startswith("the starter")
    with pytest.raises(ConfigError, match="resnet50"):
        ensure_backbone(FolderRegistry(tmp_path / "other"), BackboneSpec("resnet50", "starter"))
