import hashlib
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER, has_starter, publish_starter
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return cache


def test_it_is_small_and_says_what_it_was_made_from() -> None:
    assert (FOLDER / BACKBONE_FILE).stat().st_size < 12_000_000
    about = (FOLDER / "README.md").read_text()
    for library in ("Scopia", "Kator Legaz", "Reallusion", "Blend Swap", "Sweet Home 3D"):
        assert library in about


def test_it_serves_as_any_version_does(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    version = publish_starter(registry, "backbone")
    registry.verify(version)
    assert registry.champion("backbone") is None
    embedder = Embedder(version.path / BACKBONE_FILE, size=int(version.manifest["size"]))
    pictures = np.random.default_rng(0).integers(0, 256, (3, embedder.size, embedder.size, 3), np.uint8)
    vectors = embedder.embed(pictures)
    assert vectors.shape == (3, version.manifest["dimension"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(embedder.embed(pictures[:1]), vectors[:1], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.uint8]:
    """Three shapes, each four times in other colours."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:80, :80]
    shapes = [
        (rows - 40) ** 2 + (columns - 40) ** 2 < 600,
        abs(columns - 40) < 6,
        (rows // 10 + columns // 10) % 2 == 0,
    ]
    return np.stack(
        [
            np.where(shape[..., None], rng.integers(0, 120, 3), rng.integers(180, 256, 3)).astype(np.uint8)
            for shape in shapes
            for _ in range(4)
        ]
    )


def test_likeness_is_more_than_chance(pictures: npt.NDArray[np.uint8]) -> None:
    """Two pictures of one shape are nearer to each other than to another shape, whatever their colours are."""
    vectors = Embedder(FOLDER / BACKBONE_FILE, size=80).embed(pictures)
    cosines = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosines, -1)
    assert (cosines.argmax(1) // 4 == np.arange(12) // 4).mean() > 0.9


def test_a_training_can_go_on_from_it(pictures: npt.NDArray[np.uint8]) -> None:
    """In single precision it gives what its 8 bits give, and nearly so with the batch's own statistics."""
    served = Embedder(FOLDER / BACKBONE_FILE, size=80).embed(pictures)
    built = build_backbone(BackboneSpec(weights="starter", size=80))
    assert built.origin == "the starter"
    with torch.inference_mode():
        exact = built.module(torch.from_numpy(pictures)).numpy()
        built.module.train()
        training = built.module(torch.from_numpy(pictures)).numpy()
    assert (unit(exact) * unit(served)).sum(1).min() > 0.99
    assert 0.5 < np.linalg.norm(training) / np.linalg.norm(exact) < 2
    assert (unit(training) * unit(exact)).sum(1).mean() > 0.8
    with pytest.raises(ConfigError, match="resnet34"):
        build_backbone(BackboneSpec("resnet34", "starter"))


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_it_serves_where_imagenet_cannot_be_had(
    tmp_path: Path, no_network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(), or_starter=True)
    assert str(version.manifest["origin"]).startswith("the starter")
    assert version.manifest["size"] == 80
    assert "The starter serves until" in caplog.text
    shipped = hashlib.sha256((FOLDER / BACKBONE_FILE).read_bytes()).hexdigest()
    assert version.manifest["files"][BACKBONE_FILE]["sha256"] == shipped


@pytest.mark.slow
def test_imagenet_comes_before_it(tmp_path: Path, no_network: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), no_network / "resnet18-f37072fd.pth")
    version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(size=64), or_starter=True)
    assert version.manifest["origin"] == "torchvision ImageNet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "or_starter"),
    [(BackboneSpec(weights="random", size=64), True), (BackboneSpec(size=64), False)],
    ids=["random weights were asked for", "a size was asked for"],
)
def test_random_weights_else(tmp_path: Path, no_network: Path, spec: BackboneSpec, or_starter: bool) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), spec, or_starter=or_starter)
    assert version.manifest["origin"] == "random, seed 0"


def test_it_can_be_asked_for(tmp_path: Path) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(weights="starter"), or_starter=True)
    assert str(version.manifest["origin"]).startswith("the starter")
    with pytest.raises(ConfigError, match="resnet50"):
        ensure_backbone(FolderRegistry(tmp_path / "other"), BackboneSpec("resnet50", "starter"))


def test_there_is_one_architecture_of_it() -> None:
    assert has_starter("resnet18")
    assert not has_starter("resnet50")
