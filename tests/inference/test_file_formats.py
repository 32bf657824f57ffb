"""Files that are cut short, and formats that are read only where a package is installed."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taxonomist.inference.file_formats import readable_formats, unreadable
from taxonomist.inference.image_decoding import NOTE, decode_image, prepare_image
from taxonomist.inference.pipeline import DecodedImage
from taxonomist.taxonomy.errors import ImageDecodingError
from tests.images import encoded

HEIC = Path(__file__).parents[1] / "data" / "halves.heic"  # left half red, right half blue


def photo(mode: str = "RGB") -> Image.Image:
    blocks = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8))).convert(mode)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("cut", [1, 2, 3, 10, 100])
def test_jpeg_without_its_last_bytes(cut: int, mode: str, options: dict[str, int]) -> None:
    data = encoded(photo(mode), "JPEG", **options)
    whole, image = decode_image(data), decode_image(data[:-cut])
    assert NOTE not in whole.info
    assert "cut short" in image.info[NOTE]
    assert image.size == whole.size
    difference = np.asarray(image).astype(int) - np.asarray(whole)
    assert (difference[:200] == 0).all() or "progressive" in options  # the missing part is at the end
    assert np.abs(difference).mean() < 4
    assert np.abs(prepare_image(data[:-cut], 32).astype(int) - prepare_image(data, 32)).mean() < 8


def test_jpeg_without_its_end_mark_is_complete() -> None:
    data = encoded(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG")  # the grey of missing parts
    for cut in (1, 2):
        image = decode_image(data[:-cut])
        assert image.info[NOTE] == "The file is cut short; 0.0% of the image is missing."
        assert (np.asarray(image) == 128).all()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_jpeg_that_lacks_a_large_part_is_refused(share: float) -> None:
    data = encoded(photo(), "JPEG")
    with pytest.raises(ImageDecodingError, match=r"cut short: [0-9]+% of it is missing"):
        decode_image(data[: int(len(data) * share)])


def test_large_jpeg_that_is_cut_is_decoded_at_a_fraction() -> None:
    data = encoded(photo().resize((1600, 1200)), "JPEG", quality=90)[:-500]
    image = decode_image(data, min_side=200)
    assert image.size == (200, 150)
    assert NOTE in image.info


def test_a_turned_jpeg_that_is_cut_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(), "JPEG", exif=exif)
    assert decode_image(data[:-10]).size == decode_image(data).size == (240, 320)


def test_a_cut_jpeg_obeys_the_pixel_cap() -> None:
    with pytest.raises(ImageDecodingError, match="too large"):
        decode_image(encoded(photo(), "JPEG")[:-10], max_pixels=1000)


def test_the_note_stays_with_the_decoded_image() -> None:
    data = encoded(photo(), "JPEG")
    assert DecodedImage.from_bytes(data, 32).note is None
    assert "cut short" in str(DecodedImage.from_bytes(data[:-10], 32).note)


def test_heic() -> None:
    pytest.importorskip("pi_heif")
    image = decode_image(HEIC.read_bytes())
    assert image.size == (64, 32)
    assert np.abs(np.array(image.getpixel((5, 10)), int) - (255, 0, 0)).max() <= 6
    assert np.abs(np.array(image.getpixel((58, 10)), int) - (0, 0, 255)).max() <= 6
    with pytest.raises(ImageDecodingError, match="too large"):
        decode_image(HEIC.read_bytes(), max_pixels=100)


def test_heic_is_named_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # as if it were not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr("taxonomist.inference.image_decoding._FORMATS", readable_formats())
    with pytest.raises(ImageDecodingError, match=r"HEIC.*label-studio-taxonomist\[heic\]"):
        decode_image(HEIC.read_bytes())


@pytest.mark.skipif("AVIF" not in Image.OPEN, reason="this Pillow does not read AVIF")
def test_avif() -> None:
    image = decode_image(encoded(Image.new("RGB", (20, 10), (255, 0, 0)), "AVIF"))
    assert np.abs(np.array(image.getpixel((5, 5)), int) - (255, 0, 0)).max() <= 6


def container(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return struct.pack(">I", 16 + len(brands)) + b"ftyp" + major + bytes(4) + brands + bytes(64)


@pytest.mark.parametrize(("data", "name"), [
    (container(b"heic", b"mif1", b"heic"), "HEIC"),
    (container(b"mif1", b"heic"), "HEIC"),
    (container(b"avif", b"mif1", b"miaf"), "AVIF"),
    (container(b"mif1", b"avif", b"miaf"), "AVIF"),
    (b"\xff\x0a" + bytes(64), "JPEG XL"),
    (b"II*\0" + bytes(64), "TIFF"),
])  # fmt: skip
def test_a_format_that_cannot_be_read_is_named(data: bytes, name: str) -> None:
    assert name in str(unreadable(data, ("JPEG", "PNG")))
    with pytest.raises(ImageDecodingError, match=name if name != "HEIC" else "HEI"):
        decode_image(data)


@pytest.mark.parametrize("data", [b"", b"no image", container(b"mp42", b"isom")])
def test_other_files_are_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageDecodingError, match="not an image"):
        decode_image(data)
