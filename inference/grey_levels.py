"""Grey images of 16 and 32 bits, as an image viewer shows them. Pillow's own conversion would clip them to white."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAXIMUM, _FORMAT = 258, 262, 281, 339  # tags of TIFF
_UNSIGNED = 1  # a value of _FORMAT
_WHITE_IS_ZERO = 0  # a value of _PHOTOMETRIC
_CAMERA_BITS = (8, 10, 12, 14, 16)  # the depths of cameras and scanners, whose values are stored in 16 bits as they are
_SCALED_BY_PILLOW = ("PPM", "JPEG2000")  # these formats say what white is, and Pillow scales it to 65535

# Pillow reads few kinds of white-is-zero greys. It reads the others when they are listed; `grey_to_rgb` inverts all.
for (_order, _photometric, *_rest), _modes in list(TiffImagePlugin.OPEN_INFO.items()):
    if _photometric == 1 and _modes[0].startswith(("I", "F")):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _WHITE_IS_ZERO, *_rest), _modes)  # type: ignore[arg-type]


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether `image` is grey with 16 or 32 bits per pixel."""
    return image.mode.startswith(("I", "F"))


def grey_to_rgb(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 or 32 bits as RGB.

    White is the largest value of the depth that the values need: 12 bits in a file of 16 are shown as 12 bits. Values
    of 32 bits and signed values are stretched, since their white is not defined. Values that are not finite have no
    influence. White-is-zero images are inverted. Transparent pixels are white.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    values: npt.NDArray[Any] = np.asarray(image)
    if image.mode == "I" and _first(tags, _FORMAT) == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow keeps these bits in signed numbers
    transparent = image.info.get("transparency")
    is_transparent = values == transparent if isinstance(transparent, int) else np.zeros(values.shape, np.bool_)
    visible = values[np.isfinite(values) & ~is_transparent]
    black, white = _range(float(visible.min()), float(visible.max()), image, tags) if visible.size else (0.0, 1.0)
    grey = _to_eight_bits(values, black, white)
    if _first(tags, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    grey[is_transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _range(low: float, high: float, image: Image.Image, tags: Any) -> tuple[float, float]:
    """Return the values that are shown black and white, for values from `low` to `high`."""
    if image.mode == "I" and image.format in _SCALED_BY_PILLOW:
        return 0.0, 65535.0
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return 0.0, _white(high, image, tags)
    if low == high and 0 <= low <= 1:
        return 0.0, 1.0
    return low, high


def _white(high: float, image: Image.Image, tags: Any) -> float:
    """Return the white of unsigned 16-bit values up to `high`."""
    if image.format in _SCALED_BY_PILLOW:
        return 65535.0
    bits = _first(tags, _BITS_PER_SAMPLE)
    if bits is not None and bits < 16:
        return float((1 << int(bits)) - 1)
    stated = _first(tags, _MAXIMUM)
    if stated is not None and high <= stated:
        return stated
    return float(next((1 << depth) - 1 for depth in _CAMERA_BITS if high < 1 << depth))


def _to_eight_bits(values: npt.NDArray[Any], black: float, white: float) -> npt.NDArray[np.uint8]:
    scale = 255.0 / (white - black if white > black else 1.0)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # a table needs a fraction of the memory
        table = ((np.arange(65536) - black) * scale).round().clip(0, 255).astype(np.uint8)
        return np.asarray(table[values])
    grey = values.astype(np.float64)
    np.nan_to_num(grey, copy=False, nan=black, posinf=white, neginf=black)
    grey -= black
    grey *= scale
    return grey.round(out=grey).clip(0, 255, out=grey).astype(np.uint8)


def _first(tags: Any, tag: int) -> float | None:
    value = tags.get(tag)
    if isinstance(value, tuple):
        value = value[0] if value else None
    return float(value) if isinstance(value, int | float) else None
