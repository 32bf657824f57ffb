"""A catalogue for pre-trainings and their evaluation: its images in memory, its products in three parts."""

from __future__ import annotations

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.inference.image_decoding import prepare_image


@dataclass(frozen=True)
class Catalogue:
    """The images of a catalogue and what is known of each.

    `images` is uint8 (n, size, size, 3); the other arrays have shape (n,): the index of its level 1 (`labels`), of its
    level 2 (`kinds`) and of its product, its number among the views of the product, and the part of the product.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    kinds: NDArray[np.int64]
    products: NDArray[np.int64]
    views: NDArray[np.int64]
    parts: NDArray[np.str_]

    def of(self, part: str, *, every: int = 1) -> Catalogue:
        """Return the images of one part; of each product, only the views whose number is a multiple of `every`."""
        rows = (self.parts == part) & (self.views % every == 0)
        return Catalogue(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read_catalogue(folder: Path, size: int, cache: Path) -> Catalogue:
    """Return the catalogue of `folder/manifest.csv`, with images of `size` pixels a side.

    The manifest has the columns file, level1, level2 and product; the files lie beside it or in images/. The resized
    images are kept in the folder `cache`.
    """
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cached = cache / f"images-{size}.npy"
    if not cached.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as threads:
            images = list(threads.map(lambda row: _read_image(folder, row["file"], size), rows))
        np.save(cached, np.stack(images))
    numbers: dict[str, int] = {}
    views = []
    for row in rows:
        views.append(numbers.get(row["product"], 0))
        numbers[row["product"]] = views[-1] + 1
    return Catalogue(
        np.load(cached, mmap_mode="r"),
        np.unique([row["level1"] for row in rows], return_inverse=True)[1],
        np.unique([row["level2"] for row in rows], return_inverse=True)[1],
        np.unique([row["product"] for row in rows], return_inverse=True)[1],
        np.array(views),
        np.array([part_of(row["product"]) for row in rows]),
    )


def part_of(product: str) -> str:
    """Return "test" (a quarter), "validation" (a quarter) or "pretrain", by a hash of the product's name."""
    share = int(hashlib.sha256(f"0:{product}".encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < 0.25 else "validation" if share < 0.5 else "pretrain"


def _read_image(folder: Path, file: str, size: int) -> NDArray[np.uint8]:
    path = folder / file if (folder / file).exists() else folder / "images" / file
    return prepare_image(path.read_bytes(), size)
