"""A small real backbone, images made on the spot, and a project whose embeddings need no images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.heads.data.dataset import Example

SIZE = 64
SPEC = BackboneSpec(weights="random", size=SIZE)


def random_images(count: int, size: int = SIZE) -> NDArray[Any]:
    """Return noise, uint8 (count, size, size, 3)."""
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="session")
def backbone_registry(tmp_path_factory: pytest.TempPathFactory) -> FolderRegistry:
    registry = FolderRegistry(tmp_path_factory.mktemp("models"))
    ensure_backbone(registry, SPEC)
    return registry


@pytest.fixture(scope="session")
def backbone(backbone_registry: FolderRegistry) -> ModelVersion:
    return ensure_backbone(backbone_registry, SPEC)


@pytest.fixture
def tree() -> Tree:
    paths: list[TaxonomyPath] = []
    for top in ("bath", "tools", "pipes"):
        paths += [(top,), (top, f"{top}-a"), (top, f"{top}-b")]
    return Tree("media", "image", "taxonomy", tuple(paths))


@dataclass
class Project:
    """A project in a folder, with separable embeddings of 16 numbers: the centre of a leaf, and noise."""

    folder: Path
    tree: Tree
    registry: FolderRegistry = field(init=False)
    store: FolderEmbeddings = field(init=False)
    backbone: ModelVersion = field(init=False)

    def __post_init__(self) -> None:
        self.registry = FolderRegistry(self.folder / "models")
        self.store = FolderEmbeddings(self.folder / "embeddings", 16)
        self.backbone = ModelVersion("backbone", "v1", self.folder, {})

    def examples(self, per_leaf: int, *, noise: float = 0.5, seed: int = 0) -> list[Example]:
        random = np.random.default_rng(seed)
        leaves = [path for path in self.tree.paths if len(path) == 2]
        centres = np.random.default_rng(99).normal(size=(len(leaves), 16)) * 2
        examples = []
        for number in range(per_leaf):
            for leaf, centre in zip(leaves, centres, strict=True):
                id = f"{leaf[1]}-{number}"
                vectors = centre + noise * random.normal(size=(3, 16))
                self.store.append([id, f"{id}#1", f"{id}#2"], vectors.astype(np.float32))
                examples.append(Example(id, {self.tree.control: (leaf,)}))
        return examples


@pytest.fixture
def project(tmp_path: Path, tree: Tree) -> Project:
    return Project(tmp_path, tree)
