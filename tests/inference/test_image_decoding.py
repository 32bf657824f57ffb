import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.taxonomy.errors import ImageDecodingError
from tests.images import encoded

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def near(pixel: object, colour: tuple[int, int, int], tolerance: int = 6) -> bool:
    return bool(np.abs(np.array(pixel, int) - colour).max() <= tolerance)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_common_formats(kind: str) -> None:
    image = decode_image(encoded(halves(), kind))
    assert image.mode == "RGB"
    assert near(image.getpixel((5, 10)), RED)
    assert near(image.getpixel((35, 10)), BLUE)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_animated(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE, WHITE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames") == 3  # noqa: B009 - not every format has it
    assert near(decode_image(data).getpixel((10, 10)), RED)


def test_cmyk_jpeg() -> None:
    image = decode_image(encoded(halves().convert("CMYK"), "JPEG", quality=95))
    assert near(image.getpixel((5, 10)), RED, 20)
    assert near(image.getpixel((35, 10)), BLUE, 20)


def test_sixteen_bit_png_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 100, 257 * 200, 65535]], np.uint16)
    image = decode_image(encoded(Image.fromarray(values)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 100, 200, 255]


def test_sixteen_bit_colour_png() -> None:
    # Pillow cannot write this kind, so by hand: one pixel of 16-bit RGB.
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00" + struct.pack(">HHH", 65535, 32768, 0))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    assert decode_image(data).getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_measured_values_are_stretched(dtype: type) -> None:
    image = decode_image(encoded(Image.fromarray(np.array([[-1000, 0, 1000]], dtype)), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 5, 10))
    picture = decode_image(encoded(image.convert(mode)))
    assert near(picture.getpixel((2, 5)), (0, 0, 0))
    assert near(picture.getpixel((8, 5)), WHITE)


def test_half_transparent_is_mixed_with_white() -> None:
    assert near(decode_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))).getpixel((1, 1)), (127, 127, 127), 2)


def test_palette_with_transparency() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 0, 1])
    picture = decode_image(encoded(image, transparency=bytes([255, 0])))
    assert [picture.getpixel((x, 0)) for x in range(4)] == [RED, WHITE, RED, WHITE]


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_other_modes(mode: str) -> None:
    kind = "JPEG" if mode == "YCbCr" else "PNG"
    assert near(decode_image(encoded(Image.new("RGB", (8, 8), WHITE).convert(mode), kind)).getpixel((4, 4)), WHITE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = halves()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored turned left, so the camera says: turn right
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, "JPEG", exif=exif, quality=95))
    assert image.size == upright.size
    assert near(image.getpixel((5, 10)), RED, 20)
    assert near(image.getpixel((35, 10)), BLUE, 20)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as `image_decoding` does; pytest sets its own filters
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(halves(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffnonsense")
    assert decode_image(data).size == (40, 20)


@pytest.mark.parametrize("data", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>"])
def test_not_a_picture(data: bytes) -> None:
    with pytest.raises(ImageDecodingError, match="not an image"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageDecodingError):
        decode_image(data[: int(len(data) * share)])


def test_broken_inside() -> None:
    data = bytearray(encoded(halves(200, 200)))
    data[60:80] = bytes(20)
    with pytest.raises(ImageDecodingError, match="damaged"):
        decode_image(bytes(data))


def bomb(width: int, height: int) -> bytes:
    """Return the head of a PNG that claims to be huge; decoding it would need gigabytes."""
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + content))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + content + checksum + encoded(halves())[33:]


@pytest.mark.parametrize("side", [7_100, 10_000, 12_000, 60_000])  # our cap; Pillow's warning; near it; Pillow's error
def test_too_many_pixels(side: int) -> None:
    with pytest.raises(ImageDecodingError, match="too large"):
        decode_image(bomb(side, side))


def test_pixel_cap_is_exact() -> None:
    data = encoded(halves(40, 20))
    assert decode_image(data, max_pixels=800).size == (40, 20)
    with pytest.raises(ImageDecodingError, match="40 x 20"):
        decode_image(data, max_pixels=799)


def test_prepare_keeps_the_whole_picture_on_white() -> None:
    picture = prepare_image(encoded(halves()), 32)
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    assert near(picture[16, 3], RED)
    assert near(picture[16, 28], BLUE)
    assert (picture[:8] == 255).all()
    assert (picture[24:] == 255).all()
    assert (picture[8:24, :15] == RED).all()


def test_prepare_of_bytes_and_image_agree() -> None:
    assert (prepare_image(encoded(halves()), 24) == prepare_image(halves(), 24)).all()


def test_prepare_antialiases() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(prepare_image(Image.fromarray(stripes), 32).astype(int)[4:-4, 4:-4] - 128).max() <= 3


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1)])
def test_prepare_of_extreme_shapes(size: tuple[int, int]) -> None:
    assert prepare_image(encoded(Image.new("RGB", size, RED)), 32).shape == (32, 32, 3)


def test_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same() -> None:
    smooth = Image.linear_gradient("L").resize((2000, 1500)).convert("RGB")
    data = encoded(smooth, "JPEG", quality=95)
    assert decode_image(data, min_side=64).size == (250, 188)
    assert decode_image(data).size == (2000, 1500)
    difference = prepare_image(data, 32).astype(int) - prepare_image(decode_image(data), 32)
    assert np.abs(difference).max() <= 3
