"""From the bytes of an image to the square that the backbone sees.

Training and serving both use `prepare_image`, so that an image looks the same to the model in both. No torch.
"""

import io
import re
import warnings

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from taxonomist.inference.file_formats import readable_formats, scale_transparent_colour, unreadable
from taxonomist.inference.grey_levels import grey_to_rgb, is_deep_grey
from taxonomist.taxonomy.errors import ImageDecodingError

MAX_PIXELS = 50_000_000
"""More than the camera of any phone that service staff carries; 150 MB when decoded."""

PreparedImage = npt.NDArray[np.uint8]
"""A decoded image, resized and padded to a square: uint8 (size, size, 3), red first."""

_FORMATS = readable_formats()

NOTE = "taxonomist_note"
"""The key of `Image.info` under which `decode_image` says what is wrong with an image that it returns all the same."""

_END_OF_JPEG = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_MOST_MISSING = 0.05  # share of the pixels of a JPEG that is cut short

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

    Transparent pixels are blended with white, values of 16 and 32 bits are scaled to 8 bits, CMYK and palettes are
    converted, and the camera's EXIF orientation is applied. With `min_side`, a large JPEG may be decoded at 1/2, 1/4 or
    1/8 of its size, which is several times faster; its longer side still has at least `min_side` pixels. A JPEG that
    lacks its last bytes, and at most a twentieth of its pixels, is returned with a text under `NOTE` in its `info`.

    Raises `ImageDecodingError` when `data` is not an image, is cut short, or has more than `max_pixels` pixels (which
    is checked before decoding begins).
    """
    try:
        return _decode(data, max_pixels, min_side)
    except ImageDecodingError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageDecodingError(f"The image is too large: {error}", hint=_too_large_hint(max_pixels)) from error
    except UnidentifiedImageError as error:
        raise unreadable(data, _FORMATS) from error
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged input: OSError, SyntaxError, struct.error, EOFError, ...
        if (image := _decode_cut_jpeg(data, max_pixels, min_side)) is not None:
            return image
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageDecodingError(f"The image is damaged: {reason}.") from error


def prepare_image(image: bytes | Image.Image, size: int, *, max_pixels: int = MAX_PIXELS) -> PreparedImage:
    """Return the whole image, centred on a white square: uint8 (size, size, 3).

    `image` is an encoded or a decoded image. Nothing is cropped, since products often fill the frame. Raises
    `ImageDecodingError` as `decode_image` does.
    """
    if isinstance(image, bytes):
        # Twice the target size is enough for the antialiased resize.
        image = decode_image(image, max_pixels=max_pixels, min_side=2 * size)
    if image.mode != "RGB":
        image = _to_rgb(image)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    square = Image.new("RGB", (size, size), "white")
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.array(square, dtype=np.uint8)


def _decode(data: bytes, max_pixels: int, min_side: int | None) -> Image.Image:
    image, orientation = _load(data, max_pixels, min_side)
    rgb = _to_rgb(image)
    return rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb


def _load(data: bytes, max_pixels: int, min_side: int | None) -> tuple[Image.Image, int]:
    """Return the image as it is stored, and its EXIF orientation."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(image.size, max_pixels)
        if min_side is not None:
            _draft(image, min_side)
        image.load()
        scale_transparent_colour(image, data)
        return image, _orientation(image)


def _decode_cut_jpeg(data: bytes, max_pixels: int, min_side: int | None) -> Image.Image | None:
    """Return the image of a JPEG that lacks its last bytes, None for another file. Its missing part is grey.

    Raises `ImageDecodingError` when too much is missing.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    data = data.rstrip(b"\xff")  # the first half of a marker
    # The last marker of a progressive file may be cut, too; the parts before it are a whole image of less detail.
    for part in (data, data[: max(match.start() for match in _MARKER.finditer(data))]):
        try:
            image, _ = _load(part + _END_OF_JPEG, max_pixels, min_side)
            rgb = _decode(part + _END_OF_JPEG, max_pixels, min_side)
            break
        except Exception:  # noqa: S112 - the caller reports the error of the whole file
            continue
    else:
        return None
    missing = _grey_end(image)
    if missing and _same_without_end(image, part, max_pixels, min_side):
        missing = 0.0
    if missing > _MOST_MISSING:
        raise ImageDecodingError(f"The image is cut short: {missing:.0%} of it is missing.", hint="Upload it again.")
    rgb.info[NOTE] = f"The file is cut short; {missing:.1%} of the image is missing."
    return rgb


def _same_without_end(image: Image.Image, data: bytes, max_pixels: int, min_side: int | None) -> bool:
    """Return whether other bytes in place of the missing ones give the same image: only the end marker is missing."""
    try:
        other, _ = _load(data + b"\x5a\xc3" * 32 + _END_OF_JPEG, max_pixels, min_side)
    except Exception:
        return False
    return image.tobytes() == other.tobytes()


def _grey_end(image: Image.Image) -> float:
    """Return the share of the image from its lower edge up that is filled with grey, as libjpeg fills missing parts."""
    values = np.asarray(image).reshape(image.height, image.width, -1)
    is_filled = ((values == 127) | (values == 128)).all(axis=2)  # 127 in an inverted CMYK
    return float(np.logical_and.accumulate(is_filled[::-1], axis=0).mean())


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if is_deep_grey(image):
        return grey_to_rgb(image)
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image.convert("RGB")
