"""Images made on the spot."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the image as the bytes of a file of that format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shapes() -> npt.NDArray[np.uint8]:
    """Return three shapes, each four times in other colours: uint8 (12, 160, 160, 3)."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:160, :160]
    masks = [
        (rows - 80) ** 2 + (columns - 80) ** 2 < 2400,
        abs(columns - 80) < 12,
        (rows // 20 + columns // 20) % 2 == 0,
    ]
    return np.stack(
        [
            np.where(mask[..., None], rng.integers(0, 120, 3), rng.integers(180, 256, 3)).astype(np.uint8)
            for mask in masks
            for _ in range(4)
        ]
    )
