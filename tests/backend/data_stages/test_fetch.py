"""The stage that fetches: only what is missing, nothing private, and complete again after a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taxonomist.backend.data_stages.fetch import run_fetch
from taxonomist.backend.data_stages.files import ChosenImage, PlacedImage, write_query, write_split
from taxonomist.backend.data_stages.query import run_query
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.storage.catalog import ImageDocument, LabelQuery
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConfigError, ImageUnavailableError, StorageError
from tests.small_world import PATHS, image_bytes

ROOT = Path(__file__).parents[3]
SIZE = 32


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Images in the configured folder that belong to no project."""
    (tmp_path / "images").mkdir()
    return Services(Settings(home=tmp_path / "home", images_folder=tmp_path / "images"))


def add(folder: Path, *numbers: int) -> list[ChosenImage]:
    for number in numbers:
        (folder / f"{number}.jpg").write_bytes(image_bytes(PATHS[number % 4], number))
    return [ChosenImage(f"i{number}", f"{number}.jpg") for number in numbers]


def test_images_are_those_that_serving_sees_and_only_new_ones_are_read(services: Services, tmp_path: Path) -> None:
    chosen = add(tmp_path / "images", *range(8))
    write_query(tmp_path / "query", chosen, {})
    calls: list[tuple[int, int]] = []
    result = run_fetch(
        services, tmp_path / "query", tmp_path / "out", SIZE, progress=lambda *counts: calls.append(counts)
    )
    assert (result.images, result.new, result.present, result.failures) == (8, 8, 0, {})
    assert calls[-1] == (8, 8)
    ids, pixels = PreparedImageStore(tmp_path / "out", SIZE).snapshot()
    assert ids == [image.id for image in chosen]
    expected = [prepare_image(decode_image((tmp_path / "images" / image.uri).read_bytes()), SIZE) for image in chosen]
    np.testing.assert_array_equal(pixels, np.stack(expected))

    for image in chosen:
        (tmp_path / "images" / image.uri).unlink()
    write_query(tmp_path / "query", [*chosen, *add(tmp_path / "images", 8)], {})
    result = run_fetch(services, tmp_path / "query", tmp_path / "out", SIZE)
    assert (result.images, result.new, result.present, result.failures) == (9, 1, 8, {})
    report = json.loads((tmp_path / "out" / "fetch.json").read_text())
    assert (report["images"], report["new"], report["size"], report["failed"]) == (9, 1, SIZE, 0)
    assert report["pictures"] == report["images"]  # the former name


def test_failures_are_listed_and_retried(services: Services, tmp_path: Path) -> None:
    write_query(
        tmp_path, [*add(tmp_path / "images", 0), ChosenImage("i1", "1.jpg"), ChosenImage("i2", "../../etc/passwd")], {}
    )
    result = run_fetch(services, tmp_path, tmp_path / "out", SIZE)
    assert result.new == 1
    assert result.failures.keys() == {"i1", "i2"}
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        assert {row["id"]: row["reason"] for row in csv.DictReader(file)} == result.failures
    add(tmp_path / "images", 1)
    assert run_fetch(services, tmp_path, tmp_path / "out", SIZE).failures.keys() == {"i2"}


def test_it_fails_when_every_image_fails(services: Services, tmp_path: Path) -> None:
    write_query(tmp_path, [ChosenImage("i1", "1.jpg"), ChosenImage("i2", "2.jpg")], {})
    with pytest.raises(ImageUnavailableError, match="None of the 2 images"):
        run_fetch(services, tmp_path, tmp_path / "out", SIZE)
    assert (tmp_path / "out" / "failures.csv").is_file()


def test_parts_of_a_split(services: Services, tmp_path: Path) -> None:
    write_query(tmp_path, add(tmp_path / "images", 0, 1, 2, 3), {})
    write_split(
        tmp_path,
        [PlacedImage("i0", "train", "x", 0), PlacedImage("i1", "test", "x", 0), PlacedImage("i2", "train", "x", 0)],
        {},
    )
    run_fetch(services, tmp_path, tmp_path / "train", SIZE, split=tmp_path, parts=["train"])
    assert PreparedImageStore(tmp_path / "train", SIZE).snapshot()[0] == ["i0", "i2"]
    run_fetch(services, tmp_path, tmp_path / "all", SIZE, split=tmp_path)
    assert PreparedImageStore(tmp_path / "all", SIZE).snapshot()[0] == ["i0", "i1", "i2"]
    with pytest.raises(ConfigError, match="nothing to fetch"):
        run_fetch(services, tmp_path, tmp_path / "none", SIZE, split=tmp_path, parts=["validation"])
    with pytest.raises(ConfigError, match="--split"):
        run_fetch(services, tmp_path, tmp_path / "none", SIZE, parts=["train"])
    write_split(tmp_path, [PlacedImage("strange", "train", "x", 0)], {})
    with pytest.raises(ConfigError, match="strange"):
        run_fetch(services, tmp_path, tmp_path / "none", SIZE, split=tmp_path)


def test_a_folder_has_images_of_one_size(services: Services, tmp_path: Path) -> None:
    write_query(tmp_path, add(tmp_path / "images", 0), {})
    run_fetch(services, tmp_path, tmp_path / "out", SIZE)
    with pytest.raises(StorageError, match="folder of its own"):
        run_fetch(services, tmp_path, tmp_path / "out", 64)


def test_an_image_that_became_private_since_the_query_is_not_fetched(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for image in add(tmp_path / "images", 0, 1, 2):
        services.catalog.put(ImageDocument(id=image.id, uri_orig=image.uri))
    run_query(services, LabelQuery(), tmp_path)
    services.catalog.put(ImageDocument(id="i1", uri_orig="1.jpg", face_rects=[[1, 2, 3, 4]], is_blurred=True))
    result = run_fetch(services, tmp_path, tmp_path / "out", SIZE)
    assert (result.new, result.private) == (2, 1)
    assert "i1" not in PreparedImageStore(tmp_path / "out", SIZE)
    services.catalog.put(ImageDocument(id="i2", uri_orig="2.jpg", pii_entities=["A. Muster"]))
    assert run_fetch(services, tmp_path, tmp_path / "out", SIZE).private == 2
    assert "1 images" in caplog.text
    assert "become private since" in caplog.text
    allowed = Services(services.settings.model_copy(update={"allow_private": True}))
    assert run_fetch(allowed, tmp_path, tmp_path / "out", SIZE).new == 1


MANY = 1500


def encoded(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
def test_killed_in_the_middle_the_next_run_reads_what_is_missing(services: Services, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number in range(MANY):
        (images / f"{number:04d}.png").write_bytes(encoded(number))
    write_query(tmp_path, [ChosenImage(f"i{number:04d}", f"{number:04d}.png") for number in range(MANY)], {})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taxonomist", "--home", str(tmp_path / "home"), "data", "fetch"]
    command += ["--query", str(tmp_path), "--out", str(out), "--size", str(SIZE), "--concurrency", "1"]
    environment = os.environ | {"TAXONOMIST_IMAGES_FOLDER": str(images)}
    for _ in range(5):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        index = out / "index.jsonl"
        while process.poll() is None and not (index.exists() and index.stat().st_size):
            time.sleep(0.001)
        process.kill()
        process.wait()
        stored = set(PreparedImageStore(out, SIZE).snapshot()[0])
        if 0 < len(stored) < MANY:
            break
    assert 0 < len(stored) < MANY
    assert not (out / "fetch.json").exists()
    for id in stored:  # they are not read again
        (images / f"{id[1:]}.png").unlink()
    again = subprocess.run([*command, "--json"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    result = json.loads(again.stdout)
    counts = (result["images"], result["new"], result["present"], result["failures"])
    assert counts == (MANY, MANY - len(stored), len(stored), {})
    ids, pixels = PreparedImageStore(out, SIZE).snapshot()
    assert ids == [f"i{number:04d}" for number in range(MANY)]
    for number in range(0, MANY, 97):
        np.testing.assert_array_equal(pixels[number], prepare_image(decode_image(encoded(number)), SIZE))
    assert not list(out.glob("*damaged*"))
