"""A catalogue whose answer is known: each leaf has a colour of its own, so the mean colour tells all, noise nothing."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.data import Contestant, Labelled, Pictures, StudyOptions

COLOURS: dict[TaxonomyPath, tuple[int, int, int]] = {
    ("bath", "sink"): (230, 20, 20),
    ("bath", "tub"): (120, 20, 20),
    ("tools", "saw"): (20, 230, 20),
    ("tools", "tongs"): (20, 120, 20),
    ("sort out",): (20, 20, 230),
}
PRODUCTS = (30, 14, 12, 8, 6)  # of each colour
VIEWS = 3  # pictures of a product
OPTIONS = StudyOptions(
    train=90, validation=40, test=50, seeds=2, views=1, head=HeadOptions(hidden=64, epochs=30, threads=1)
)


@pytest.fixture(scope="session")
def catalogue() -> Callable[..., Labelled]:
    """Makes a catalogue; `held_out` as in Labelled."""

    def make(held_out: frozenset[str] = frozenset(), size: int = 8) -> Labelled:
        random = np.random.default_rng(0)
        ids, paths, groups, pictures = [], [], [], []
        for (path, colour), products in zip(COLOURS.items(), PRODUCTS, strict=True):
            for product in range(products):
                for view in range(VIEWS):
                    ids.append(f"{path[-1]}-{product}-{view}")
                    paths.append(path)
                    groups.append(f"{path[-1]}-{product}")
                    noise = random.normal(0, 12, (size, size, 3))
                    pictures.append(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
        return Labelled(ids, np.stack(pictures), paths, groups, held_out)

    return make


def mean_colour(pictures: Pictures) -> np.ndarray:
    """What separates the classes."""
    return pictures.mean(axis=(1, 2), dtype=np.float32)


def noise(pictures: Pictures) -> np.ndarray:
    """What says nothing: each picture has some numbers of its own."""
    seeds = [zlib.crc32(picture.tobytes()) for picture in pictures]
    return np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]).astype(np.float32)


COLOUR = Contestant("mean colour", "colour", mean_colour)
NOISE = Contestant("noise", "noise", noise)
