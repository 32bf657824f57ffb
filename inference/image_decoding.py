"""From the bytes of an image to the square that the backbone sees.

Training and serving both use `prepare_image`, so that an image looks the same to the model in both. No torch.
"""

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from taxonomist.taxonomy.errors import ImageDecodingError

MAX_PIXELS = 50_000_000
"""More than the camera of any phone that service staff carries; 150 MB when decoded."""

PreparedImage = npt.NDArray[np.uint8]
"""A decoded image, resized and padded to a square: uint8 (size, size, 3), red first."""

# EPS and similar formats are left out on purpose: Pillow passes them to an interpreter (Ghostscript).
_ALLOWED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
Image.init()
_FORMATS = tuple(name for name in _ALLOWED if name in Image.OPEN)

# Pillow only warns about an image of 89 to 179 million pixels. Its documentation advises to turn the warning into an
# error; `decode_image` catches it. (A filter around each call would not be thread-safe.)
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Damaged metadata does not matter here, so no warning is printed for each such image.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", module="PIL")

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Return the image in `data` as an upright RGB image; of an animation, the first frame.

    Transparent pixels are blended with white, 16-bit values are scaled to 8 bits, CMYK and palettes are converted, and
    the camera's EXIF orientation is applied. With `min_side`, a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its
    size, which is several times faster; its longer side still has at least `min_side` pixels.

    Raises `ImageDecodingError` when `data` is not an image, is cut short, or has more than `max_pixels` pixels (which
    is checked before decoding begins).
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.size, max_pixels)
            if min_side is not None:
                _draft(image, min_side)
            image.load()
            orientation = _orientation(image)
            upright = image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
            return _to_rgb(upright, image.format)
    except ImageDecodingError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageDecodingError(f"The image is too large: {error}", hint=_too_large_hint(max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ImageDecodingError(
            f"These {len(data)} bytes are not an image, or have a format that cannot be read.",
            hint=f"Readable formats are {', '.join(_FORMATS)}.",
        ) from error
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged input: OSError, SyntaxError, struct.error, EOFError, ...
        raise ImageDecodingError(f"The image is damaged: {error or type(error).__name__}.") from error


def prepare_image(image: bytes | Image.Image, size: int, *, max_pixels: int = MAX_PIXELS) -> PreparedImage:
    """Return the whole image, centred on a white square: uint8 (size, size, 3).

    `image` is an encoded or a decoded image. Nothing is cropped, since products often fill the frame. Raises
    `ImageDecodingError` as `decode_image` does.
    """
    if isinstance(image, bytes):
        # Twice the target size is enough for the antialiased resize.
        image = decode_image(image, max_pixels=max_pixels, min_side=2 * size)
    if image.mode != "RGB":
        image = _to_rgb(image, image.format)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    square = Image.new("RGB", (size, size), "white")
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.array(square, dtype=np.uint8)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageDecodingError(f"The image is empty: {width} x {height} pixels.")
    if width * height > max_pixels:
        raise ImageDecodingError(
            f"The image is too large: {width} x {height} pixels.", hint=_too_large_hint(max_pixels)
        )


def _too_large_hint(max_pixels: int) -> str:
    return f"At most {max_pixels:,} pixels are decoded."


def _draft(image: Image.Image, min_side: int) -> None:
    """Make Pillow decode a JPEG at a fraction of its size; other formats ignore it."""
    factor = max(image.size) // min_side
    if factor >= 2:
        width, height = image.size
        image.draft(None, (max(1, width // factor), max(1, height // factor)))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # an image with a damaged EXIF block is still usable; Pillow raises many kinds of errors here too
        return 1


def _to_rgb(image: Image.Image, source: str | None) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_eight_bits(image, source)).convert("RGB")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image, source: str | None) -> PreparedImage:
    """Return grey values of 16 or 32 bits as 8 bits; Pillow's own conversion would clip them to white."""
    values: npt.NDArray[Any] = np.nan_to_num(np.asarray(image).astype(np.float64))
    if image.mode.startswith("I;16") or (image.mode == "I" and source in ("PNG", "PPM")):
        return (values / 257.0).round().clip(0, 255).astype(np.uint8)
    # The white of these formats is not defined, so the values are stretched to the full range.
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255.0 / (high - low if high > low else 1.0))).round().astype(np.uint8)
