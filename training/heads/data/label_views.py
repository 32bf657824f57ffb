"""Augmented views of a labelled image: colour jitter, rotation, zoom and flips (thesis, section 5.2.3).

They are milder than the views of contrastive pre-training, so that the image's label is right for a view, too. The
embedding of a view is stored, so the draw depends only on the seed and the view's number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageEnhance

from taxonomist.inference.image_decoding import PreparedImage


@dataclass(frozen=True)
class Augmentation:
    """How a view may differ from its image.

    Brightness, contrast, saturation and size (`zoom`) change by a factor of 1 - x to 1 + x; rotation is up to `degrees`
    in both directions; flips are probabilities.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    degrees: float = 10.0
    zoom: float = 0.1
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.02  # service staff hold the camera upside down now and then


DEFAULT = Augmentation()
_BLANK = 250  # the padding is white in every served image, and stays so in a view


def label_views(image: PreparedImage, count: int, seed: int, augmentation: Augmentation = DEFAULT) -> PreparedImage:
    """Return views uint8 (count, h, w, 3) of an image uint8 (h, w, 3). View i is the same for every `count` above i."""
    original = Image.fromarray(image)
    views = [_view(original, augmentation, default_rng([seed, number])) for number in range(count)]
    return np.stack(views) if views else np.empty((0, *image.shape), np.uint8)


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
    """Return the image flipped, then zoomed and rotated in one resampling; the outside is white, as the padding is."""
    if random.random() < augmentation.horizontal_flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < augmentation.vertical_flip:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    angle = np.deg2rad(random.uniform(-augmentation.degrees, augmentation.degrees))
    scale = 1 / random.uniform(1 - augmentation.zoom, 1 + augmentation.zoom)
    width, height = image.size
    x, y = width / 2, height / 2
    # The matrix maps a point of the view to the point of the image that it shows, around the centre.
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    matrix = (a, b, x - a * x - b * y, -b, a, y + b * x - a * y)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255)
    )
