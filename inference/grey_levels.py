"""Grey images of 16 and 32 bits, as an image viewer shows them. Pillow's own conversion would clip them to white."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAXIMUM, _FORMAT = 258, 262, 281, 339  # tags of TIFF
_UNSIGNED = 1  # a value of _FORMAT
_WHITE_IS_ZERO = 0  # a value of _PHOTOMETRIC
_CAMERA_BITS = (8, 10, 12, 14, 16)  # the depths of cameras and scanners, whose values are stored in 16 bits as they are
STRIP_PIXELS = 250_000
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
    transparent = image.info.get("transparency")
    is_unsigned = image.mode == "I" and _first(tags, _FORMAT) == _UNSIGNED
    is_inverted = _first(tags, _PHOTOMETRIC) == _WHITE_IS_ZERO

    def values_of(part: Image.Image) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        values: npt.NDArray[Any] = np.asarray(part)
        if is_unsigned:
            values = values.view(np.uint32)  # Pillow keeps these bits in signed numbers
        is_transparent = values == transparent if isinstance(transparent, int) else np.zeros(values.shape, np.bool_)
        return values, is_transparent

    lows: list[float] = []
    highs: list[float] = []
    for _, part in strips(image):
        values, is_transparent = values_of(part)
        visible = values[np.isfinite(values) & ~is_transparent]
        if visible.size:
            lows.append(float(visible.min()))
            highs.append(float(visible.max()))
    black, white = _range(min(lows), max(highs), image, tags) if lows else (0.0, 1.0)

    def convert(part: Image.Image) -> Image.Image:
        values, is_transparent = values_of(part)
        grey = _to_eight_bits(values, black, white)
        if is_inverted:
            grey = 255 - grey
        grey[is_transparent] = 255
        return Image.fromarray(grey).convert("RGB")

    return in_strips(image, convert)


def strips(image: Image.Image, *, upwards: bool = False) -> Iterator[tuple[int, Image.Image]]:
    """Yield the image in strips of some rows, each with its upper row: work on one takes little memory."""
    rows = max(1, STRIP_PIXELS // image.width)
    tops = range(0, image.height, rows)
    for top in reversed(tops) if upwards else tops:
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return an RGB image of the strips that `convert` returns."""
    converted = Image.new("RGB", image.size)
    for top, part in strips(image):
        converted.paste(convert(part), (0, top))
    return converted


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
