"""The catalogue of the promise's table: trees, embeddings in the order of the manifest, and splits by product."""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.groups.projection import ProductScatter
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.product_space import MOST_OF_A_PRODUCT, SHARES, TaughtSpace, scatter_of
from taxonomist.training.study.split import held_out_groups

CONTROL = "taxonomy"
STARTER, LITE0 = "starter", "lite0"
_LITE0_PIXELS = 160
_MIN_PRODUCTS = 6
_SHAPES: Mapping[str, tuple[str, ...]] = {
    "Seating": ("Chair", "Armchair", "Sofa", "Bench", "Stool", "Wheelchair"),
    "Tables": ("Table", "Desk"),
    "Storage": ("Cabinet", "Bookcase & shelves", "Container"),
    "Beds and textiles": ("Bed", "Clothing & wearable", "Towel & bath accessory"),
    "Lights and decoration": ("Lamp & light", "Decoration"),
    "Table and food": ("Tableware & kitchenware", "Glass & cup", "Bottle", "Food"),
    "Appliances": (
        "Electronics",
        "Cooker & oven",
        "Small appliance",
        "Fridge",
        "Washing machine",
        "Heating",
        "Fan & air conditioning",
    ),
    "Sanitary": ("Washbasin & sink", "Bath & shower", "Toilet"),
    "Building": ("Window", "Door", "Railing & fence", "Stairs", "Plug, socket & switch", "Road marking & sign"),
    "People and animals": ("Person", "Animal"),
    "Plants": ("Plant", "Tree"),
    "Vehicles": ("Car", "Two-wheeler", "Truck & bus"),
    "Leisure and tools": ("Toy & game", "Sport", "Hand tool", "Musical instrument"),
}
TREES: Mapping[str, str] = {
    "furniture": "the two upper levels of the catalogue. Level 1 is the room of a product",
    "shapes": "a coarser tree. Level 1 has groups of the catalogue's level-2 names, level 2 the names with at least "
    f"{_MIN_PRODUCTS} products. The groups were written from the names alone, before any result was seen",
}


@dataclass(frozen=True)
class Catalogue:
    """The images of one tree: the path and the product of each (n,), and their embeddings (n, d)."""

    x: NDArray[np.float32]
    paths: tuple[TaxonomyPath, ...]
    products: NDArray[np.str_]
    new: frozenset[str]  # the products that the starter has not seen
    _taught: dict[tuple[float, int], TaughtSpace | None] = field(default_factory=dict, compare=False)

    @cached_property
    def tree(self) -> Tree:
        """Return the tree of all paths: a project knows its taxonomy before the first label."""
        return Tree.from_paths(CONTROL, self.paths)

    def split(self, labels: int, test_share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the images with labels and those to test on: all images of `test_share` of the products.

        The labels are drawn from the images of all other products. Raises ConfigError when these have too few.
        """
        random = np.random.default_rng(seed)
        names = random.permutation(np.unique(self.products))
        is_tested = np.isin(self.products, names[: round(len(names) * test_share)])
        pool = random.permutation(np.flatnonzero(~is_tested))
        if len(pool) < labels or not is_tested.any():
            raise ConfigError(
                f"{labels} labels were requested. {len(pool)} images are left to label, {is_tested.sum()} to test on.",
                hint="Change --labels or --test-share.",
            )
        return pool[:labels], np.flatnonzero(is_tested)

    def taught(self, test_share: float, seed: int) -> TaughtSpace | None:
        """Return what all images of the products teach that a split does not test. It is the same for all labels."""
        key = test_share, seed
        if key not in self._taught:
            _, testing = self.split(1, test_share, seed)
            rows = np.setdiff1d(np.arange(len(self.paths)), testing)
            self._taught.clear()
            self._taught[key] = taught_space(self.x[rows], self.products[rows])
        return self._taught[key]


def taught_space(x: NDArray[np.float32], products: NDArray[np.str_]) -> TaughtSpace | None:
    """Return the space that images of products teach a head without labels, as in a training."""
    images: dict[str, list[int]] = {}
    for row, product in enumerate(products.tolist()):
        images.setdefault(product, []).append(row)
    rows = np.array([row for some in images.values() for row in some[:MOST_OF_A_PRODUCT]])
    shares = {product: zlib.crc32(product.encode()) % SHARES for product in images}
    own = np.array([shares[product] for product in products[rows].tolist()])

    def scatter(chosen: NDArray[np.int64]) -> ProductScatter | None:
        return scatter_of([(x[chosen], products[chosen].tolist())])

    return TaughtSpace.of(scatter(rows), (scatter(rows[own == share]) for share in range(SHARES)), shares)


def read_catalogue(folder: Path, tree: str, x: NDArray[np.float32]) -> Catalogue:
    """Return the images of a tree from `folder/manifest.csv`, with their rows of the embeddings `x` of all images."""
    rows = read_manifest(folder)
    if len(x) != len(rows):
        raise ConfigError(f"There are {len(x)} embeddings for the {len(rows)} images of {folder / 'manifest.csv'}.")
    kinds = Counter({row["product"]: row["level2"] for row in rows}.values())
    group_of = {kind: group for group, members in _SHAPES.items() for kind in members}
    paths: dict[int, TaxonomyPath] = {}
    for number, row in enumerate(rows):
        kind = row["level2"]
        if tree == "furniture":
            paths[number] = (row["level1"], kind)
        elif kind in group_of and kinds[kind] >= _MIN_PRODUCTS:
            paths[number] = (group_of[kind], kind)
    if not paths:
        raise ConfigError(f'No image of {folder / "manifest.csv"} is in the tree "{tree}".')
    products = np.array([rows[number]["product"] for number in paths])
    new = held_out_groups({row["product"] for row in rows})
    return Catalogue(x[list(paths)], tuple(paths.values()), products, new)


def embeddings_of(eyes: str, folder: Path, given: Mapping[str, Path], work: Path) -> Path:
    """Return the file with the embeddings of all images: a given one, that of a former call, or a new one in `work`."""
    target = given.get(eyes, work / f"{eyes}.npz")
    if not target.exists():
        if eyes in given or eyes not in {STARTER, LITE0}:
            raise ConfigError(
                f'There are no embeddings "{eyes}": {target} does not exist.', hint="Use --embeddings NAME=FILE."
            )
        unfinished = target.with_suffix(".part.npz")
        np.savez(unfinished, x=_embed(eyes, folder, work))
        unfinished.rename(target)
    return target


def read_embeddings(path: Path) -> NDArray[np.float32]:
    """Return the array "x" (n, d) of a .npz file."""
    try:
        with np.load(path) as arrays:
            x: NDArray[np.float32] = arrays["x"].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f'{path} is not a .npz file with an array "x" of numbers.') from error
    return x


def digest(folder: Path, embeddings: Path) -> str:
    """Return a checksum of the manifest and the embeddings: results of other data are not used again."""
    manifest = (folder / "manifest.csv").read_bytes()
    return hashlib.sha256(manifest + read_embeddings(embeddings).tobytes()).hexdigest()[:12]


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """Return the rows of `folder/manifest.csv`. Raises ConfigError when it is missing or lacks a column."""
    try:
        with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"{folder / 'manifest.csv'} cannot be read: {error}") from error
    missing = {"file", "level1", "level2", "product"} - set(rows[0] if rows else ())
    if missing:
        raise ConfigError(f"{folder / 'manifest.csv'} has no column {', '.join(sorted(missing))}, or no rows.")
    return rows


def _embed(eyes: str, folder: Path, work: Path) -> NDArray[np.float32]:
    from benchmarks.catalogue import read_catalogue as read_images

    if eyes == LITE0:
        from benchmarks.yardstick import efficientnet_lite0

        images = read_images(folder, _LITE0_PIXELS, work).images
        return efficientnet_lite0(_LITE0_PIXELS).embed(np.array(images))  # torch wants arrays that it could write
    from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
    from taxonomist.inference.starter import FOLDER, starter_size

    embedder = Embedder(FOLDER / BACKBONE_FILE, threads=1)
    return embedder.embed(read_images(folder, starter_size(), work).images)
