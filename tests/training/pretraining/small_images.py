"""Small images of four kinds, for pre-training in tests."""

import numpy as np
from numpy.typing import NDArray


def small_images(count: int = 64, side: int = 24) -> NDArray[np.uint8]:
    """Return images of coloured blobs on grey, four kinds in turn."""
    random = np.random.default_rng(0)
    colours = np.array([[220, 30, 30], [30, 170, 60], [30, 50, 220], [230, 210, 40]])
    made = random.normal(128, 10, (count, side, side, 3))
    for row in range(count):
        x, y = random.integers(0, side // 2, 2)
        made[row, y : y + side // 2, x : x + side // 2] = colours[row % 4]
    return np.clip(made, 0, 255).astype(np.uint8)
