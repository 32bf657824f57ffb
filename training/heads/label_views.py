"""Augmented views of a labelled picture: colour jitter, rotation, zoom and flips (thesis, section 5.2.3).

They differ from the views of contrastive pre-training: milder, so that a view still deserves the picture's label. Each
is embedded once and kept, so the draw depends only on the seed and the view's number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageEnhance

from taxonomist.inference.image_decoding import PreparedImage


@dataclass(frozen=True)
class Augmentation:
    """How far a view may be from its picture."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    degrees: float = 10.0
    zoom: float = 0.1
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.02  # service staff do hold the camera upside down, seldom


DEFAULT = Augmentation()
_BLANK = 250  # as white as the padding, which is white in every picture that is served, and stays so in a view


def views(picture: PreparedImage, count: int, seed: int, augmentation: Augmentation = DEFAULT) -> PreparedImage:
    """`count` views of `picture` (h, w, 3), as uint8 (count, h, w, 3). View i is the same for every `count` above i."""
    image = Image.fromarray(picture)
    made = [_view(image, augmentation, default_rng([seed, number])) for number in range(count)]
    return np.stack(made) if made else np.empty((0, *picture.shape), np.uint8)


def _view(image: Image.Image, augmentation: Augmentation, random: Generator) -> PreparedImage:
    image = _move(image, augmentation, random)
    blank = np.array(image).min(axis=2) >= _BLANK
    for enhancer, strength in (
        (ImageEnhance.Brightness, augmentation.brightness),
        (ImageEnhance.Contrast, augmentation.contrast),
        (ImageEnhance.Color, augmentation.saturation),
    ):
        image = enhancer(image).enhance(random.uniform(1 - strength, 1 + strength))
    view = np.array(image, dtype=np.uint8)
    view[blank] = 255
    return view


def _move(image: Image.Image, augmentation: Augmentation, random: Generator) -> Image.Image:
    """Flip, then zoom and rotate in one resampling; what comes in from outside is white, as the padding is."""
    if random.random() < augmentation.horizontal_flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < augmentation.vertical_flip:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    angle = np.deg2rad(random.uniform(-augmentation.degrees, augmentation.degrees))
    scale = 1 / random.uniform(1 - augmentation.zoom, 1 + augmentation.zoom)
    width, height = image.size
    x, y = width / 2, height / 2
    # The matrix maps a point of the view to the point of the picture that it shows, around the centre.
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    matrix = (a, b, x - a * x - b * y, -b, a, y + b * x - a * y)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255)
    )
