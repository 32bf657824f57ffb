"""Greys of 16 and 32 bits: each expected value is what an image viewer shows."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from taxonomist.inference.image_decoding import decode_image, prepare_image
from tests.images import encoded

WIDE_RAMP = np.array([[0, 257 * 100, 257 * 200, 65535]], np.uint16)


def tiff(values: npt.NDArray[np.generic], *, order: Literal["<", ">"] = "<", **tags: int) -> bytes:
    """Return an uncompressed grey TIFF, written by hand: Pillow writes no white-is-zero image of more than 8 bits."""
    kinds = {"u": 1, "i": 2, "f": 3}
    entries = {
        256: values.shape[1],
        257: values.shape[0],
        258: 8 * values.itemsize,
        259: 1,
        262: tags.get("photometric", 1),
        273: 8,
        277: 1,
        278: values.shape[0],
        279: values.nbytes,
        339: kinds[values.dtype.kind],
    }
    if "maximum" in tags:
        entries[281] = tags["maximum"]
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    start = b"II*\0" if order == "<" else b"MM\0*"
    table = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        table += struct.pack(order + "HHII", tag, 4, 1, value)  # each a LONG
    return start + struct.pack(order + "I", 8 + len(pixels)) + pixels + table + bytes(4)


def png(rows: list[bytes], width: int, depth: int, colour: int, transparent: bytes | None) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    invisible = b"" if transparent is None else chunk(b"tRNS", transparent)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + invisible + pixels + chunk(b"IEND", b"")


def shown(data: bytes) -> list[int]:
    """Return the first row; all three colours are the same."""
    pixels = np.asarray(decode_image(data))
    assert (pixels == pixels[:, :, :1]).all()
    return [int(value) for value in pixels[0, :, 0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_is_not_a_negative(order: Literal["<", ">"]) -> None:
    assert shown(tiff(WIDE_RAMP, order=order, photometric=1)) == [0, 100, 200, 255]
    assert shown(tiff(WIDE_RAMP, order=order, photometric=0)) == [255, 155, 55, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int32])
def test_white_is_zero_in_other_types(dtype: type) -> None:
    assert shown(tiff(np.array([[0, 100, 250]], dtype), photometric=0)) == [255, 153, 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_values_of_a_camera_fill_the_range(bits: int) -> None:
    """A camera's values, of whatever depth, are stored in 16 bits as they are."""
    white = (1 << bits) - 1
    values = np.array([[0, white // 2, white]], np.uint16)
    assert shown(tiff(values)) == [0, 127, 255]
    assert shown(encoded(Image.fromarray(values))) == [0, 127, 255]  # PNG
    assert shown(tiff(values, photometric=0)) == [255, 128, 0]


def test_a_dark_image_of_a_camera_stays_dark() -> None:
    assert shown(tiff(np.array([[0, 1200]], np.uint16))) == [0, round(1200 / 4095 * 255)]


def test_the_stated_maximum_is_white() -> None:
    assert shown(tiff(np.array([[0, 1000]], np.uint16), maximum=2000)) == [0, 128]
    assert shown(tiff(np.array([[0, 4000]], np.uint16), maximum=2000)) == [0, round(4000 / 4095 * 255)]  # wrong tag


def test_formats_that_state_their_depth_keep_it() -> None:
    assert shown(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 4095)) == [0, 16]
    assert shown(b"P5 2 1 4095\n" + struct.pack(">2H", 0, 4095)) == [0, 255]


def test_transparent_grey_of_16_bits_is_white() -> None:
    row = struct.pack(">4H", 7, 0, 65535, 8)
    assert shown(png([row], 4, 16, 0, struct.pack(">H", 7))) == [255, 0, 255, 0]


def test_transparent_pixels_do_not_count_in_the_range() -> None:
    row = struct.pack(">3H", 0, 4095, 65535)
    assert shown(png([row], 3, 16, 0, struct.pack(">H", 65535))) == [0, 255, 255]
    assert shown(png([struct.pack(">H", 9)], 1, 16, 0, struct.pack(">H", 9))) == [255]  # nothing is visible


@pytest.mark.parametrize(("depth", "row", "transparent", "expected"), [
    (2, b"\x1b", 3, [0, 85, 170, 255]),
    (2, b"\x1b", 0, [255, 85, 170, 255]),
    (2, b"\x1b", 1, [0, 255, 170, 255]),
    (4, b"\x08\xf0", 8, [0, 255, 255, 0]),
    (8, b"\x00\x80\xff\x01", 128, [0, 255, 255, 1]),
])  # fmt: skip
def test_transparent_grey_of_fewer_bits(depth: int, row: bytes, transparent: int, expected: list[int]) -> None:
    assert shown(png([row], 4, depth, 0, struct.pack(">H", transparent))) == expected


def test_transparent_colour_of_16_bits() -> None:
    row = struct.pack(">6H", 65535, 32768, 0, 0x1234, 0x5678, 0x9ABC)
    image = decode_image(png([row], 2, 16, 2, struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 128, 0), (255, 255, 255)]


def test_floats_are_stretched_over_their_finite_values() -> None:
    values = np.array([[0.0, 0.25, 1.0, np.nan, np.inf, -np.inf]], np.float32)
    assert shown(tiff(values)) == [0, 64, 255, 0, 255, 0]
    assert shown(tiff(np.array([[-1000, 0, 1000]], np.float32))) == [0, 128, 255]
    assert shown(tiff(np.array([[np.nan, np.nan]], np.float32))) == [0, 0]


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (0.5, 128), (1.0, 255)])
def test_a_float_of_one_value(value: float, expected: int) -> None:
    assert shown(tiff(np.full((1, 2), value, np.float32))) == [expected, expected]


def test_unsigned_32_bits() -> None:
    assert shown(tiff(np.array([[0, 1 << 31, (1 << 32) - 1]], np.uint32))) == [0, 128, 255]


def test_orientation_and_preparation_of_a_deep_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.array([[0, 4095]] * 3, np.uint16))
    turned = decode_image(encoded(image, "PNG", exif=exif))
    assert turned.size == (3, 2)
    assert [turned.getpixel((0, y)) for y in (0, 1)] == [(0, 0, 0), (255, 255, 255)]
    data = tiff(np.full((8, 8), 4095, np.uint16), photometric=0)
    assert (prepare_image(data, 8) == 0).all()
    assert (prepare_image(Image.open(io.BytesIO(data)), 8) == 0).all()  # as a caller of the Python API passes it
