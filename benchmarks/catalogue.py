"""A catalogue for pre-trainings and their judges: its images in memory, its products in parts."""

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
    """Images uint8 (n, s, s, 3) with their levels 1 and 2, product, and the part their product is of."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    kinds: NDArray[np.int64]
    products: NDArray[np.int64]
    views: NDArray[np.int64]
    parts: NDArray[np.str_]

    def of(self, part: str, *, every: int = 1) -> Catalogue:
        """The images of one part; with `every`, of each product each so many-th view only."""
        rows = (self.parts == part) & (self.views % every == 0)
        return Catalogue(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read_catalogue(folder: Path, size: int, cache: Path) -> Catalogue:
    """`manifest.csv` with file, level1, product and view; images beside it or in images/."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = cache / f"pictures-{size}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as threads:
            images = list(threads.map(lambda row: _image(folder, row["file"], size), rows))
        np.save(kept, np.stack(images))
    numbers: dict[str, int] = {}
    views = []
    for row in rows:
        views.append(numbers.get(row["product"], 0))
        numbers[row["product"]] = views[-1] + 1
    return Catalogue(
        np.load(kept, mmap_mode="r"),
        np.unique([row["level1"] for row in rows], return_inverse=True)[1],
        np.unique([row["level2"] for row in rows], return_inverse=True)[1],
        np.unique([row["product"] for row in rows], return_inverse=True)[1],
        np.array(views),
        np.array([part_of(row["product"]) for row in rows]),
    )


def part_of(product: str) -> str:
    """ "test" (a quarter), "validation" (a quarter) or "pretrain", by a hash of its name."""
    share = int(hashlib.sha256(f"0:{product}".encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < 0.25 else "validation" if share < 0.5 else "pretrain"


def _image(folder: Path, file: str, size: int) -> NDArray[np.uint8]:
    path = folder / file if (folder / file).exists() else folder / "images" / file
    return prepare_image(path.read_bytes(), size)
