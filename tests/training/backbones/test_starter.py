import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER, starter_near_distance
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.images import shapes

LITE0 = "efficientnet_lite0"


@pytest.mark.parametrize("weights", ["starter", "imagenet", "auto"])
def test_a_training_can_go_on_from_it(empty_cache: Path, weights: str) -> None:
    """Its weights are those of the network that serves in 8 bits, and nothing is downloaded."""
    images = shapes()
    served = Embedder(FOLDER / BACKBONE_FILE, size=160).embed(images)
    built = build_backbone(BackboneSpec(LITE0, weights, size=160))
    assert built.origin == "ImageNet, as the starter"
    with torch.inference_mode():
        exact = built.module(torch.from_numpy(images)).numpy()
    assert (unit(exact) * unit(served)).sum(1).mean() > 0.9


def test_it_has_one_architecture() -> None:
    with pytest.raises(ConfigError, match="no starter of the architecture resnet34"):
        build_backbone(BackboneSpec("resnet34", "starter"))


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


@pytest.mark.parametrize("weights", ["auto", "starter"])
def test_it_is_published_as_it_ships(tmp_path: Path, empty_cache: Path, weights: str) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), BackboneSpec(LITE0, weights))
    assert version.backbone_manifest.origin.startswith("the starter")
    assert version.backbone_manifest.size == 160
    shipped = hashlib.sha256((FOLDER / BACKBONE_FILE).read_bytes()).hexdigest()
    assert version.files[BACKBONE_FILE].sha256 == shipped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "origin"),
    [
        (BackboneSpec(LITE0, "random", size=64), "random, seed 0"),
        (BackboneSpec(LITE0, "auto", size=64), "ImageNet, as the starter"),
        (BackboneSpec("resnet18", "auto", size=64), "random, seed 0"),
    ],
    ids=["random weights were asked for", "a size was asked for", "an architecture was asked for"],
)
def test_others_are_exported(tmp_path: Path, empty_cache: Path, spec: BackboneSpec, origin: str) -> None:
    version = ensure_backbone(FolderRegistry(tmp_path), spec)
    manifest = version.backbone_manifest
    assert (manifest.origin, manifest.size) == (origin, 64)
    assert (manifest.near_distance == starter_near_distance()) == (origin != "random, seed 0")


def test_a_new_home_cannot_have_it_in_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet50"):
        ensure_backbone(FolderRegistry(tmp_path), BackboneSpec("resnet50", "starter"))
