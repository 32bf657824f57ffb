from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER, has_starter, publish_starter
from taxonomist.storage.registry.folder import FolderRegistry
from tests.images import shapes


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
    embedder = Embedder(version.path / BACKBONE_FILE, size=version.backbone_manifest.size)
    pictures = np.random.default_rng(0).integers(0, 256, (3, embedder.size, embedder.size, 3), np.uint8)
    vectors = embedder.embed(pictures)
    assert vectors.shape == (3, version.backbone_manifest.dimension)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(embedder.embed(pictures[:1]), vectors[:1], rtol=1e-4, atol=1e-4)


def test_likeness_is_more_than_chance() -> None:
    """Two pictures of one shape are nearer to each other than to another shape, whatever their colours are."""
    vectors = Embedder(FOLDER / BACKBONE_FILE, size=80).embed(shapes())
    cosines = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosines, -1)
    assert (cosines.argmax(1) // 4 == np.arange(12) // 4).mean() > 0.9


def test_there_is_one_architecture_of_it() -> None:
    assert has_starter("resnet18")
    assert not has_starter("resnet50")


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
