import csv
import io
import logging
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.inference.pipeline import DecodedImage, ImageResult, ImageSource, PipelineOptions
from taxonomist.inference.preparation import PreparationResult, prepare_images
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ImageNotFoundError, StorageError

ROOT = Path(__file__).parents[2]
SIZE = 16
MANY = 60


def encoded(number: int, width: int = 40, height: int = 30, kind: str = "PNG", channels: int = 3) -> bytes:
    shape = (height, width, channels)
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def wanted(*numbers: int) -> list[ImageSource]:
    return [ImageSource(f"i{number}", str(number), "7") for number in numbers]


def read(one: ImageSource) -> bytes:
    return encoded(int(one.uri))


def expected(*numbers: int) -> NDArray[Any]:
    return np.stack([prepare_image(decode_image(encoded(number)), SIZE) for number in numbers])


@pytest.fixture
def store(tmp_path: Path) -> PreparedImageStore:
    return PreparedImageStore(tmp_path / "pictures", SIZE)


def test_pictures_are_prepared_as_serving_does(store: PreparedImageStore) -> None:
    # The JPEG is large enough to be decoded at an eighth, which gives other pixels; serving decodes all of it.
    files = {
        "jpeg": encoded(1, 640, 480, "JPEG"),
        "alpha": encoded(2, channels=4),
        "tall": encoded(3, 5, 90),
    }
    noted: list[ImageResult[ImageSource, DecodedImage]] = []
    jobs = [ImageSource(name, name, "7") for name in files]
    assert prepare_images(jobs, store, lambda one: files[one.uri], note=noted.extend) == PreparationResult(3, 0, {})
    ids, pixels = store.snapshot()
    assert ids == list(files)
    np.testing.assert_array_equal(
        pixels, np.stack([prepare_image(decode_image(data), SIZE) for data in files.values()])
    )
    assert [(result.source.id, result.image.width, result.image.height) for result in noted] == [
        ("jpeg", 640, 480),
        ("alpha", 40, 30),
        ("tall", 5, 90),
    ]


def test_no_secret_of_an_address_is_listed(store: PreparedImageStore, tmp_path: Path) -> None:
    addresses = [
        "https://u:s3cr3t@h.test/a.jpg",
        f"https://h.test/{'a' * 5000}.jpg",
        "azure-blob://c/a?sv=1&sig=s3cr3t",
    ]
    images = [ImageSource(f"i{number}", uri, "7") for number, uri in enumerate(addresses)]
    prepare_images(images, store, lambda _: b"no picture", failures_file=tmp_path / "failures.csv")
    text = (tmp_path / "failures.csv").read_text()
    assert text.count("not an image") == 3
    assert "s3cr3t" not in text
    assert max(map(len, text.splitlines())) < 1000


def test_only_what_is_new_is_read_and_each_id_once(store: PreparedImageStore) -> None:
    seen: list[str] = []

    def reading(one: ImageSource) -> bytes:
        seen.append(one.uri)
        return read(one)

    told: list[tuple[int, int]] = []
    assert prepare_images(wanted(1, 2), store, reading) == PreparationResult(2, 0, {})
    again = [*wanted(2, 3), ImageSource("i3", "elsewhere", "8"), *wanted(*range(4, 40))]
    prepared = prepare_images(
        again, store, reading, options=PipelineOptions(batch=10), progress=lambda done, of: told.append((done, of))
    )
    assert prepared == PreparationResult(37, 1, {})
    assert sorted(seen, key=int) == [str(number) for number in range(1, 40)]
    ids, pixels = store.snapshot()
    assert ids == [f"i{number}" for number in range(1, 40)]
    np.testing.assert_array_equal(pixels, expected(*range(1, 40)))
    assert told == [(1, 38), (33, 38), (38, 38)]


def test_what_cannot_be_had_is_listed_and_tried_again(
    store: PreparedImageStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(one: ImageSource) -> bytes:
        if one.id == "i1":
            raise ImageNotFoundError("Nothing, there.", hint='Say "please".')
        if one.id == "i2":
            return b"no picture"
        if one.id == "i3":
            raise ZeroDivisionError
        if one.id == "i4":
            return encoded(4, 100, 100)
        return read(one)

    file = tmp_path / "reports" / "failures.csv"
    with caplog.at_level(logging.ERROR):
        prepared = prepare_images(wanted(*range(6)), store, failing, failures_file=file, max_pixels=5_000)
    assert (prepared.new, prepared.present) == (2, 0)
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header == ["id", "uri", "reason"]
    assert {row[0]: row[2] for row in rows} == prepared.failures
    assert rows[0] == ["i1", "1", 'Nothing, there. Say "please".']
    assert "not an image" in prepared.failures["i2"]
    assert prepared.failures["i3"] == "Unexpected error: ZeroDivisionError."
    assert "too large" in prepared.failures["i4"]
    assert "ZeroDivisionError" in caplog.text

    assert prepare_images(wanted(*range(6)), store, read, failures_file=file) == PreparationResult(4, 2, {})
    assert file.read_text(encoding="utf-8").split() == ["id,uri,reason"]
    ids, pixels = store.snapshot()
    np.testing.assert_array_equal(pixels, expected(*(int(id[1:]) for id in ids)))
    assert len(ids) == 6


def test_a_full_disk_ends_the_run_and_keeps_what_there_is(tmp_path: Path) -> None:
    prepare_images(wanted(1), PreparedImageStore(tmp_path, SIZE), read)
    reads = 0
    lock = threading.Lock()

    def counting(one: ImageSource) -> bytes:
        nonlocal reads
        with lock:
            reads += 1
        return read(one)

    threads = threading.active_count()
    full = PreparedImageStore(tmp_path, SIZE, keep_free=10**18)
    with pytest.raises(StorageError, match="Make room"):
        prepare_images(wanted(*range(200)), full, counting, options=PipelineOptions(threads=2, batch=8))
    assert reads <= 8 + 8  # a batch, and no further ahead than another
    assert threading.active_count() == threads
    assert PreparedImageStore(tmp_path, SIZE).snapshot()[0] == ["i1"]


@pytest.mark.parametrize("workers", [1, 4])
def test_reading_is_parallel_and_bounded(store: PreparedImageStore, workers: int) -> None:
    here, most = 0, 0
    lock = threading.Lock()
    all_in = threading.Barrier(workers)

    def slow(one: ImageSource) -> bytes:
        nonlocal here, most
        with lock:
            here += 1
            most = max(most, here)
        all_in.wait(30)  # breaks when fewer than `workers` come
        with lock:
            here -= 1
        return read(one)

    assert prepare_images(wanted(*range(12)), store, slow, options=PipelineOptions(threads=workers)).new == 12
    assert most == workers


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def work(folder: str) -> None:
    """What the test below kills: says a line, then prepares with batches of four."""

    def slowly(one: ImageSource) -> bytes:
        time.sleep(0.002)
        return read(one)

    store = PreparedImageStore(folder, SIZE)
    say("begun")
    prepare_images(
        wanted(*range(MANY)),
        store,
        slowly,
        options=PipelineOptions(threads=2, batch=4),
        failures_file=Path(folder) / "f.csv",
    )
    say("done")


def start(folder: Path) -> subprocess.Popen[str]:
    code = f"from tests.inference.test_preparation import work; work({str(folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_completes_it(tmp_path: Path) -> None:
    with start(tmp_path / "whole") as process:
        at = time.monotonic()
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        whole = time.monotonic() - at
    left: list[int] = []
    for seed in range(16):
        folder = tmp_path / str(seed)
        process = start(folder)
        time.sleep(random.Random(seed).random() * whole)
        process.kill()
        process.communicate()
        there = set(PreparedImageStore(folder, SIZE).snapshot()[0])
        left.append(len(there))
        reads: list[str] = []

        def reading(one: ImageSource, reads: list[str] = reads) -> bytes:
            reads.append(one.id)
            return read(one)

        store = PreparedImageStore(folder, SIZE)
        prepared = prepare_images(wanted(*range(MANY)), store, reading, failures_file=folder / "f.csv")
        assert (prepared.new, prepared.present, prepared.failures) == (MANY - len(there), len(there), {})
        assert sorted(reads) == sorted({f"i{number}" for number in range(MANY)} - there)
        ids, pixels = PreparedImageStore(folder, SIZE).snapshot()
        assert ids == [f"i{number}" for number in range(MANY)]
        np.testing.assert_array_equal(pixels, expected(*range(MANY)))
        assert not list(folder.glob("*damaged*"))
    assert any(0 < count < MANY for count in left), left  # else no kill came in the middle
