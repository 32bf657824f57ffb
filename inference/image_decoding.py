"""From the bytes of an image to the square that the backbone sees.

Training and serving both use `prepare_image`, so that an image looks the same to the model in both. No torch.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from taxonomist.inference.file_formats import decoding_bytes, readable_formats, scale_transparent_colour, unreadable
from taxonomist.inference.grey_levels import grey_to_rgb, in_strips, is_deep_grey, strips
from taxonomist.storage.images.loading import seconds_left
from taxonomist.storage.images.memory_budget import MemoryBudget
from taxonomist.taxonomy.errors import ImageDecodingError, ImageUnavailableError

MAX_PIXELS = 50_000_000
"""More than the camera of any phone that service staff carries; 400 MB while it is decoded."""

DECODING = MemoryBudget(512 * 1024 * 1024)
"""The memory of all images that are being decoded, by all threads of the process. An image waits for its share; the
share is known from the header, before anything is decoded."""

DRAFT_PIXELS = 24_000_000
"""A JPEG with more pixels is decoded at half its size, which takes a quarter of the memory."""

_WAIT_S = 30.0
_PIXEL_BYTES = 8  # of an image with `max_pixels`, which may always be decoded, alone if need be

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


class Decoded(NamedTuple):
    """An upright RGB image, and the width and height (pixels) of the upright image in the file, which may be larger."""

    image: Image.Image
    width: int
    height: int


@contextmanager
def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Iterator[Decoded]:
    """Decode as `decode_image` does, and hold the share of the memory until the end of the block.

    Of a JPEG with more than `DRAFT_PIXELS` the image has half the width and height.
    """
    share = _Share(max(DECODING.total, _PIXEL_BYTES * max_pixels))
    try:
        yield _decode_or_explain(data, max_pixels, min_side, share)
    finally:
        share.give_back()


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Return the image in `data` as an upright RGB image; of an animation, the first frame.

    Transparent pixels are blended with white, values of 16 and 32 bits are scaled to 8 bits, CMYK and palettes are
    converted, and the camera's EXIF orientation is applied. With `min_side`, a large JPEG may be decoded at 1/2, 1/4 or
    1/8 of its size, which is several times faster; its longer side still has at least `min_side` pixels. A JPEG that
    lacks its last bytes, and at most a twentieth of its pixels, is returned with a text under `NOTE` in its `info`.

    Raises `ImageDecodingError` when `data` is not an image, is cut short, has more than `max_pixels` pixels, or takes
    more memory than may be used (both are checked before decoding begins), and `ImageUnavailableError` when other
    images take the memory for too long.
    """
    with decoded(data, max_pixels=max_pixels, min_side=min_side) as found:
        return found.image


class _Share:
    """The share of an image in `DECODING`, of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = self._needed = 0

    def hold(self, needed: int) -> None:
        """Wait for a share of so many bytes, unless it is there."""
        if needed > self._limit:
            raise ImageDecodingError(
                f"The image is too large: it takes {needed:,} bytes of memory to decode it.",
                hint=f"At most {self._limit:,} are used. Shrink the image, or convert it to JPEG.",
            )
        if needed <= self._needed:
            return
        self.give_back()
        taken = DECODING.take(needed, seconds_left(_WAIT_S))
        if taken is None:
            raise ImageUnavailableError(
                f"The image takes {needed:,} bytes of memory to decode it, and other images take the "
                f"{DECODING.total:,} bytes that may be used at once.",
                hint="Try again when fewer images are decoded.",
            )
        self._held, self._needed = taken, needed

    def give_back(self) -> None:
        DECODING.give_back(self._held)
        self._held = self._needed = 0


def _decode_or_explain(data: bytes, max_pixels: int, min_side: int | None, share: _Share) -> Decoded:
    try:
        return _decode(data, max_pixels, min_side, share)
    except (ImageDecodingError, ImageUnavailableError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageDecodingError(f"The image is too large: {error}", hint=_too_large_hint(max_pixels)) from error
    except UnidentifiedImageError as error:
        raise unreadable(data, _FORMATS) from error
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged input: OSError, SyntaxError, struct.error, EOFError, ...
        if (found := _decode_cut_jpeg(data, max_pixels, min_side, share)) is not None:
            return found
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageDecodingError(f"The image is damaged: {reason}.") from error


def prepare_image(image: bytes | Image.Image, size: int, *, max_pixels: int = MAX_PIXELS) -> PreparedImage:
    """Return the whole image, centred on a white square: uint8 (size, size, 3).

    `image` is an encoded or a decoded image. Nothing is cropped, since products often fill the frame. Raises
    `ImageDecodingError` as `decode_image` does.
    """
    if isinstance(image, bytes):
        # Twice the target size is enough for the antialiased resize.
        with decoded(image, max_pixels=max_pixels, min_side=2 * size) as found:
            return prepare_image(found.image, size)
    if image.mode != "RGB":
        image = _to_rgb(image)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    square = Image.new("RGB", (size, size), "white")
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.array(square, dtype=np.uint8)


def _decode(data: bytes, max_pixels: int, min_side: int | None, share: _Share) -> Decoded:
    image, orientation, size = _load(data, max_pixels, min_side, share)
    return _upright(image, orientation, size)


def _upright(image: Image.Image, orientation: int, size: tuple[int, int]) -> Decoded:
    image = _to_rgb(image)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    width, height = size
    return Decoded(image, height, width) if orientation >= 5 else Decoded(image, width, height)


def _load(
    data: bytes, max_pixels: int, min_side: int | None, share: _Share
) -> tuple[Image.Image, int, tuple[int, int]]:
    """Return the image as it is stored, its EXIF orientation, and its size in the file."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        size = image.size
        _check_size(size, max_pixels)
        if min_side is not None:
            _draft(image, min_side)
        elif size[0] * size[1] > DRAFT_PIXELS:
            image.draft(None, (size[0] // 2, size[1] // 2))
        share.hold(decoding_bytes(image, size, data))
        image.load()
        scale_transparent_colour(image, data)
        return image, _orientation(image), size


def _decode_cut_jpeg(data: bytes, max_pixels: int, min_side: int | None, share: _Share) -> Decoded | None:
    """Return the image of a JPEG that lacks its last bytes, None for another file. Its missing part is grey.

    Raises `ImageDecodingError` when too much is missing.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    data = data.rstrip(b"\xff")  # the first half of a marker
    # The last marker of a progressive file may be cut, too; the parts before it are a whole image of less detail.
    for part in (data, data[: max(match.start() for match in _MARKER.finditer(data))]):
        try:
            image, orientation, size = _load(part + _END_OF_JPEG, max_pixels, min_side, share)
            break
        except Exception:  # noqa: S112 - the caller reports the error of the whole file
            continue
    else:
        return None
    missing = _grey_end(image)
    if missing and _same_without_end(image, part, max_pixels, min_side, share):
        missing = 0.0
    if missing > _MOST_MISSING:
        raise ImageDecodingError(f"The image is cut short: {missing:.0%} of it is missing.", hint="Upload it again.")
    found = _upright(image, orientation, size)
    found.image.info[NOTE] = f"The file is cut short; {missing:.1%} of the image is missing."
    return found


def _same_without_end(image: Image.Image, data: bytes, max_pixels: int, min_side: int | None, share: _Share) -> bool:
    """Return whether other bytes in place of the missing ones give the same image: only the end marker is missing."""
    try:
        other, _, _ = _load(data + b"\x5a\xc3" * 32 + _END_OF_JPEG, max_pixels, min_side, share)
    except Exception:
        return False
    return all(
        part.tobytes() == other_part.tobytes()
        for (_, part), (_, other_part) in zip(strips(image), strips(other), strict=True)
    )


def _grey_end(image: Image.Image) -> float:
    """Return the share of the image from its lower edge up that is filled with grey, as libjpeg fills missing parts."""
    filled = 0
    still = np.ones(image.width, np.bool_)  # by column, whether everything below is filled
    for _, part in strips(image, upwards=True):
        values = np.asarray(part).reshape(-1, image.width, len(image.getbands()))
        is_filled = ((values == 127) | (values == 128)).all(axis=2)  # 127 in an inverted CMYK
        from_below = np.logical_and.accumulate(is_filled[::-1], axis=0) & still
        filled += int(from_below.sum())
        still = from_below[-1]
        if not still.any():
            break
    return filled / (image.width * image.height)


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
        return in_strips(image, _on_white)
    return image if image.mode == "RGB" else in_strips(image, lambda part: part.convert("RGB"))


def _on_white(image: Image.Image) -> Image.Image:
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent).convert("RGB")
