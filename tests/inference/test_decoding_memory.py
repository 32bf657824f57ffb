"""The memory that decoding takes: known from the header, shared by all threads, and stated when it is too much."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from taxonomist.inference import image_decoding
from taxonomist.inference.file_formats import decoding_bytes
from taxonomist.inference.grey_levels import grey_to_rgb
from taxonomist.inference.image_decoding import DECODING, decode_image, decoded, prepare_image
from taxonomist.inference.pipeline import DecodedImage
from taxonomist.storage.images.memory_budget import MemoryBudget
from taxonomist.taxonomy.errors import ImageDecodingError, ImageUnavailableError
from tests.images import encoded

WIDTH, HEIGHT = 2000, 1500
MEASURE = """
import sys
from pathlib import Path
from PIL import Image
from taxonomist.inference import image_decoding
data, needed = sys.stdin.buffer.read(), []
estimate = image_decoding.decoding_bytes
image_decoding.decoding_bytes = lambda *given: needed.append(estimate(*given)) or needed[-1]
image_decoding.prepare_image(Image.new("RGB", (64, 64)), 32)
def bytes_of(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
Path("/proc/self/clear_refs").write_text("5")
before = bytes_of("VmRSS")
image_decoding.prepare_image(image_decoding.decode_image(data), 80)
print(max(needed), bytes_of("VmHWM") - before)
"""


def noisy(mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT)).convert(mode)


def deep_png(width: int, height: int) -> bytes:
    """Return a black 16-bit PNG, whose file is a thousand times smaller than its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([16, 0, 0, 0, 0])
    rows = zlib.compress(bytes(height * (1 + 2 * width)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILES = {
    "16-bit grey": lambda: encoded(Image.fromarray(np.asarray(noisy("L")).astype(np.uint16) * 257)),
    "transparent": lambda: encoded(noisy("RGBA")),
    "32-bit float": lambda: encoded(Image.fromarray(np.asarray(noisy("L")).astype(np.float32)), "TIFF"),
    "compressed TIFF": lambda: encoded(noisy(), "TIFF", compression="tiff_adobe_deflate"),
    "CMYK": lambda: encoded(noisy("CMYK"), "JPEG"),
    "progressive": lambda: encoded(noisy(), "JPEG", progressive=True, subsampling=0),
    "WebP": lambda: encoded(noisy(), "WEBP", lossless=True, method=0),
    "JPEG2000": lambda: encoded(noisy("RGBA"), "JPEG2000"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be set back on Linux only")
@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_decoding_takes_no_more_than_its_share(make: object) -> None:
    assert callable(make)
    run = subprocess.run([sys.executable, "-c", MEASURE], input=make(), capture_output=True, check=True)
    needed, taken = map(int, run.stdout.split())
    assert WIDTH * HEIGHT * 4 * 0.95 <= taken <= needed * 1.1  # the kernel counts in portions


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    """Room for one of the images of `deep_png(1000, 1000)`, not for two."""
    small = MemoryBudget(25_000_000)
    monkeypatch.setattr(image_decoding, "DECODING", small)
    return small


def test_images_take_turns(budget: MemoryBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    data, running, most = deep_png(1000, 1000), [0], [0]
    prepare, lock = grey_to_rgb, threading.Lock()

    def count(image: Image.Image) -> Image.Image:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        found = prepare(image)
        with lock:
            running[0] -= 1
        return found

    monkeypatch.setattr(image_decoding, "grey_to_rgb", count)
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(lambda _: decode_image(data).size, range(16)))
    assert images == [(1000, 1000)] * 16
    assert most == [1]
    assert budget.taken == 0


def test_an_image_that_is_decoded_twice_keeps_its_share(budget: MemoryBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG that is cut short. An image that waits for the whole memory comes after it."""
    monkeypatch.setattr(image_decoding, "_WAIT_S", 0.5)
    again, done = vars(image_decoding)["_decode_cut_jpeg"], threading.Event()

    def other() -> None:
        taken = budget.take(budget.total, 30)
        assert done.wait(30)
        budget.give_back(taken or 0)

    thread = threading.Thread(target=other)

    def decode_again(*given: object) -> object:
        thread.start()
        while not budget._waiting:
            pass
        return again(*given)

    monkeypatch.setattr(image_decoding, "_decode_cut_jpeg", decode_again)
    try:
        assert decode_image(encoded(noisy(), "JPEG")[:-50]).size == (WIDTH, HEIGHT)
    finally:
        done.set()
        thread.join()
    assert budget.taken == 0


def test_an_image_that_needs_more_gives_its_former_share_back(budget: MemoryBudget) -> None:
    share = image_decoding._Share(budget.total)
    for needed, taken in ((10, 10), (20, 20), (15, 20)):
        share.hold(needed)
        assert budget.taken == taken
    share.give_back()
    assert budget.taken == 0


def test_an_image_that_finds_no_room_fails_with_the_limit(
    budget: MemoryBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoding, "_WAIT_S", 0.1)
    with (
        decoded(deep_png(1000, 1000)),
        pytest.raises(ImageUnavailableError, match=r"takes 16,000,000 bytes .* the 25,000,000 bytes"),
    ):
        decode_image(deep_png(1000, 1000))
    assert decode_image(deep_png(1000, 1000)).size == (1000, 1000)


@pytest.mark.parametrize(
    ("size", "reason"),
    [((9000, 9000), "9000 x 9000 pixels.*At most 50,000,000 pixels"), ((2**31 - 1, 2), "too large")],
)
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int], reason: str) -> None:
    header = deep_png(1, 1)
    data = header[:16] + size[0].to_bytes(4) + size[1].to_bytes(4) + header[24:29]
    data += zlib.crc32(data[12:29]).to_bytes(4) + header[33:]
    with pytest.raises(ImageDecodingError, match=reason):
        decode_image(data)


def test_an_image_that_takes_more_than_all_the_memory_is_refused(budget: MemoryBudget) -> None:
    with pytest.raises(ImageDecodingError, match=r"takes 2\d,\d+,\d+ bytes of memory.*At most 25,000,000"):
        decode_image(encoded(Image.new("RGB", (1000, 700)), "JPEG2000"), max_pixels=1_000_000)
    assert decode_image(encoded(Image.new("RGB", (1000, 700)), "JPEG2000"), max_pixels=4_000_000).size == (1000, 700)
    assert budget.taken == 0


@pytest.mark.parametrize("data", [deep_png(100, 100)[:-30], b"no image", encoded(noisy(), "JPEG")[:5000]])
def test_the_share_is_given_back_after_an_error(data: bytes) -> None:
    with pytest.raises(ImageDecodingError):
        decode_image(data)
    assert DECODING.taken == 0


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[274] = 6  # a camera that was held upright
    data = encoded(noisy(), "JPEG", exif=exif)
    whole = DecodedImage.from_bytes(data, 80)
    monkeypatch.setattr(image_decoding, "DRAFT_PIXELS", 1_000_000)
    with decoded(data) as (image, width, height):
        assert image.size == (HEIGHT // 2, WIDTH // 2)
        assert (width, height) == (HEIGHT, WIDTH)
    half = DecodedImage.from_bytes(data, 80)
    assert (half.width, half.height) == (whole.width, whole.height) == (HEIGHT, WIDTH)
    assert np.abs(half.pixels.astype(int) - whole.pixels).max() < 16


def test_strips_change_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = np.random.default_rng(0).integers(0, 4000, (60, 50), np.uint16)
    files = [encoded(Image.fromarray(deep)), encoded(noisy("RGBA").resize((50, 60)))]
    files += [
        encoded(noisy(mode).resize((50, 60)), kind) for mode, kind in (("CMYK", "JPEG"), ("P", "GIF"), ("1", "PNG"))
    ]
    whole = [decode_image(data).tobytes() for data in files]
    monkeypatch.setattr("taxonomist.inference.grey_levels.STRIP_PIXELS", 120)
    assert [decode_image(data).tobytes() for data in files] == whole


def test_the_text_of_a_png_is_not_unpacked_without_end() -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    text = b"Comment\0\0" + zlib.compress(b"x" * 1_000_000)
    chunk = len(text).to_bytes(4) + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4)
    data = out.getvalue()
    assert prepare_image(data[:33] + 3 * chunk + data[33:], 8).shape == (8, 8, 3)
    with pytest.raises(ImageDecodingError, match="text"):
        prepare_image(data[:33] + 60 * chunk + data[33:], 8)


@pytest.mark.parametrize(
    ("kind", "millions"), [("WEBP", 26), ("HEIF", 26), ("AVIF", 21), ("JPEG2000", 18), ("PNG", 50), ("JPEG", 50)]
)
def test_the_largest_images_of_each_format(kind: str, millions: int) -> None:
    """As docs/design/limits.md has them."""

    def needed(millions: int) -> int:
        header = SimpleNamespace(width=1000 * millions, height=1000, mode="RGB", format=kind, info={})
        header.getbands = lambda: ("R", "G", "B")
        return decoding_bytes(cast("Image.Image", header), (header.width, header.height), b"")

    assert needed(millions) <= DECODING.total
    assert millions == 50 or needed(millions + 1) > DECODING.total


def test_a_thumbnail_in_several_passes_does_not_count() -> None:
    thumbnail = encoded(noisy().resize((80, 60)), "JPEG", progressive=True)
    plain, with_thumbnail = (encoded(noisy(), "JPEG", exif=exif) for exif in (b"", b"Exif\0\0" + thumbnail))
    progressive = encoded(noisy(), "JPEG", progressive=True, exif=b"Exif\0\0" + thumbnail)
    sizes = []
    for data in (plain, with_thumbnail, progressive):
        with Image.open(io.BytesIO(data)) as image:
            sizes.append(decoding_bytes(image, image.size, data))
    assert sizes[0] == sizes[1] < sizes[2]


def test_a_compressed_strip_of_a_tiff_counts() -> None:
    sizes = []
    for options in ({}, {"compression": "tiff_adobe_deflate", "tiffinfo": {278: HEIGHT}}):
        data = encoded(noisy(), "TIFF", **options)
        with Image.open(io.BytesIO(data)) as image:
            sizes.append(decoding_bytes(image, image.size, data))
    assert sizes[1] - sizes[0] == 4 * WIDTH * HEIGHT
