"""The image formats that can be read, the memory that decoding takes, and names for files that cannot be read."""

import warnings

from PIL import Image, PngImagePlugin

from taxonomist.inference.grey_levels import STRIP_PIXELS
from taxonomist.taxonomy.errors import ImageDecodingError

# EPS and similar formats are left out on purpose: Pillow passes them to an interpreter (Ghostscript).
_ALLOWED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JPEG2000", "PPM")

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes in which Pillow keeps a pixel, by mode; 4 in all others."""

_RGB = 4
"""Bytes of a pixel of the result, or of the result before it is turned upright."""

_STRIP = 40
"""Bytes of a pixel that a conversion takes, which is done in strips."""

_DECODER = {"WEBP": 12, "AVIF": 16, "HEIF": 12, "JPEG2000": 20}
"""Bytes of a pixel that the format's own decoder takes, measured; others take a row."""

_SCAN = b"\xff\xda"
_TILE_WIDTH, _TILE_LENGTH, _ROWS_PER_STRIP, _BITS, _COMPRESSION = 322, 323, 278, 258, 259  # tags of TIFF
_UNCOMPRESSED = 1

# What a PNG says in words is not needed, and compressed words may be long: by default 64 MB are unpacked.
PngImagePlugin.MAX_TEXT_MEMORY = 4 * PngImagePlugin.MAX_TEXT_CHUNK

_BRANDS = {  # of files in the container of ISO/IEC 23008-12; an AVIF has general brands of HEIF, too
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
_MAGIC = {
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
}
_HINTS = {
    "AVIF": "Pillow 11.3 and later reads AVIF: pip install --upgrade pillow",
    "HEIF": "The extra `heic` reads it: pip install 'label-studio-taxonomist[heic]'",
}


def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read; HEIF is one of them where the extra `heic` is installed."""
    Image.init()
    try:
        import pi_heif  # noqa: PLC0415 - the extra heic
    except ImportError:
        pass
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says what its build leaves out
            pi_heif.register_heif_opener()
    return tuple(name for name in _ALLOWED if name in Image.OPEN)


def decoding_bytes(image: Image.Image, full: tuple[int, int], data: bytes) -> int:
    """Return the bytes of memory that it takes, at most, to decode this opened image to an upright RGB one.

    `full` is the size in pixels in the file `data`; that of `image` is smaller where a JPEG is decoded at a fraction.
    """
    pixels, in_file = image.width * image.height, full[0] * full[1]
    need = pixels * (_STORED.get(image.mode, 4) + _RGB + _DECODER.get(image.format or "", 0))
    need += min(pixels, STRIP_PIXELS) * _STRIP
    if image.format in ("JPEG", "MPO") and data.count(_SCAN) - image.info.get("exif", b"").count(_SCAN) > 1:
        # A JPEG in several passes, as a progressive one is: the coefficients of all of it are kept, with 16 bits each.
        need += 2 * len(image.getbands()) * in_file
    if image.format == "TIFF":
        need += _tile_bytes(image)
    return need


def _tile_bytes(image: Image.Image) -> int:
    """Return the bytes of a tile or a strip of a TIFF, which libtiff decodes as a whole."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        return 0
    width = int(tags.get(_TILE_WIDTH, image.width))
    length = int(tags.get(_TILE_LENGTH, min(int(tags.get(_ROWS_PER_STRIP, image.height)), image.height)))
    bits = sum(tags.get(_BITS, (1,))) or 8
    return width * length * max(4, bits // 8)  # 4: libtiff makes RGBA of some kinds


def unreadable(data: bytes, formats: tuple[str, ...]) -> ImageDecodingError:
    """Return the error for a file that Pillow does not read, which names the file's format where it is known."""
    name = _name_of(data)
    readable = f"Readable formats are {', '.join(formats)}."
    if name is None:
        return ImageDecodingError(
            f"These {len(data)} bytes are not an image, or have a format that cannot be read.", hint=readable
        )
    if name in formats:
        return ImageDecodingError(
            f"This file is {name} of a kind that cannot be read, or is damaged.", hint="Convert it to JPEG or PNG."
        )
    common_name = "HEIC (HEIF)" if name == "HEIF" else name
    return ImageDecodingError(f"This file is {common_name}, which cannot be read.", hint=_HINTS.get(name, readable))


def _name_of(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
        return next((name for name, known in _BRANDS.items() if brands & set(known)), None)
    return next((name for name, starts in _MAGIC.items() if data.startswith(starts)), None)


def scale_transparent_colour(image: Image.Image, data: bytes) -> None:
    """Give the transparent colour of a PNG the range of the pixels.

    Pillow brings greys of 2 and 4 bits, and colours of 16 bits, to 8 bits, and leaves their transparent colour as it is
    in the file.
    """
    transparent = image.info.get("transparency")
    if image.format != "PNG" or transparent is None:
        return
    bits = data[24]  # the bit depth in the header, which is always the first part
    if image.mode == "L" and isinstance(transparent, int) and bits < 8:
        image.info["transparency"] = transparent * 255 // ((1 << bits) - 1)
    if image.mode == "RGB" and isinstance(transparent, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
