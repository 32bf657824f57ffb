"""A catalogue whose answer is known: each leaf has a colour of its own, so the mean colour tells all, noise nothing."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.labelled_images import Images, LabelledImages
from taxonomist.training.study.options import StudyOptions

COLOURS: dict[TaxonomyPath, tuple[int, int, int]] = {
    ("bath", "sink"): (230, 20, 20),
    ("bath", "tub"): (120, 20, 20),
    ("tools", "saw"): (20, 230, 20),
    ("tools", "tongs"): (20, 120, 20),
    ("sort out",): (20, 20, 230),
}
PRODUCTS = (30, 14, 12, 8, 6)  # of each colour
VIEWS = 3  # images of a product
OPTIONS = StudyOptions(
    train=90, validation=40, test=50, seeds=2, views=1, head=HeadOptions(hidden=64, epochs=30, threads=1)
)


@pytest.fixture(scope="session")
def catalogue() -> Callable[..., LabelledImages]:
    """Makes a catalogue; `held_out` as in LabelledImages."""

    def make(held_out: frozenset[str] = frozenset(), size: int = 8) -> LabelledImages:
        random = np.random.default_rng(0)
        ids, paths, groups, images = [], [], [], []
        for (path, colour), products in zip(COLOURS.items(), PRODUCTS, strict=True):
            for product in range(products):
                for view in range(VIEWS):
                    ids.append(f"{path[-1]}-{product}-{view}")
                    paths.append(path)
                    groups.append(f"{path[-1]}-{product}")
                    noise = random.normal(0, 12, (size, size, 3))
                    images.append(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
        return LabelledImages(ids, np.stack(images), paths, groups, held_out)

    return make


def mean_colour(images: Images) -> NDArray[Any]:
    """Return embeddings that separate the classes."""
    return np.asarray(images.mean(axis=(1, 2), dtype=np.float32))


def noise(images: Images) -> NDArray[Any]:
    """Return embeddings without information: random numbers for each image."""
    seeds = [zlib.crc32(image.tobytes()) for image in images]
    return np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]).astype(np.float32)


COLOUR = Contestant("mean colour", "colour", mean_colour)
NOISE = Contestant("noise", "noise", noise)
