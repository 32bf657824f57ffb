from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.training.heads.data.label_views import Augmentation, label_views

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
STILL = Augmentation(0, 0, 0, 0, 0, 0, 0)


def test_views_are_reproducible_and_differ() -> None:
    four = label_views(IMAGE, 4, seed=5)
    assert four.shape == (4, 32, 32, 3)
    assert four.dtype == np.uint8
    assert (label_views(IMAGE, 2, seed=5) == four[:2]).all()  # more views later leave the first ones as they are
    assert len({view.tobytes() for view in (*four, *label_views(IMAGE, 4, seed=6), IMAGE)}) == 9


def test_no_strength_changes_nothing() -> None:
    assert (label_views(IMAGE, 3, seed=0, augmentation=STILL) == IMAGE).all()


def test_no_views() -> None:
    assert label_views(IMAGE, 0, seed=0).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (Augmentation(0, 0, 0, 0, 0, horizontal_flip=1, vertical_flip=0), IMAGE[:, ::-1]),
        (Augmentation(0, 0, 0, 0, 0, horizontal_flip=0, vertical_flip=1), IMAGE[::-1]),
    ],
)
def test_flips(augmentation: Augmentation, expected: NDArray[Any]) -> None:
    assert (label_views(IMAGE, 1, seed=0, augmentation=augmentation)[0] == expected).all()


def test_rotation_and_zoom_keep_the_centre_and_bring_in_white() -> None:
    image = np.zeros((33, 33, 3), np.uint8)
    image[16, 16] = (255, 0, 0)
    turned = label_views(image, 8, seed=0, augmentation=Augmentation(0, 0, 0, 45, 0.3, 0, 0))
    assert (turned[:, 16, 16, 0] > 200).all()
    assert (turned[:, 16, 16, 1] < 60).all()
    assert (turned == 255).all(axis=-1).any()


def test_brightness_stays_within_its_strength() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    means = label_views(grey, 50, seed=0, augmentation=Augmentation(0.3, 0, 0, 0, 0, 0, 0)).mean(axis=(1, 2, 3))
    assert 69 <= means.min() < 80
    assert 120 < means.max() <= 130
