"""The image formats that can be read, and names for files that cannot."""

import warnings

from PIL import Image

from taxonomist.taxonomy.errors import ImageDecodingError

# EPS and similar formats are left out on purpose: Pillow passes them to an interpreter (Ghostscript).
_ALLOWED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JPEG2000", "PPM")

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
