import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.storage.images.cache import CachedImages
from taxonomist.taxonomy.errors import ImageError, ImageNotFoundError

Run = Callable[..., list[str]]


class Counting:
    """Images that record the addresses that are read."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.reads: list[str] = []

    def read(self, uri: str) -> bytes:
        self.reads.append(uri)
        if "missing" in uri:
            raise ImageNotFoundError(uri)
        return hashlib.sha256(uri.encode()).digest() * (self.size // 32 + 1)


def stored(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_image_is_fetched_once(tmp_path: Path) -> None:
    inner = Counting()
    first = CachedImages(inner, tmp_path, 10_000).read("http://h/a.jpg")
    assert CachedImages(inner, tmp_path, 10_000).read("https://h/a.jpg") == first
    assert inner.reads == ["http://h/a.jpg"]


def test_two_images_of_one_address_with_other_parameters_are_both_kept(tmp_path: Path) -> None:
    images = CachedImages(Counting(), tmp_path, 10_000)
    first, second = (images.read(f"http://h/image?id={number}&signature=abc") for number in (1, 2))
    assert first != second
    assert images.read("http://h/image?id=2&signature=def") == second


def test_two_label_studios_may_have_one_path_for_two_images(tmp_path: Path) -> None:
    images = CachedImages(Counting(), tmp_path, 10_000)
    for path in ("/data/upload/1/a.jpg", "/data/local-files/?d=a.jpg", "/tasks/7/resolve/?fileuri=czM6Ly9iL2EuanBn"):
        assert images.read(f"http://one{path}") != images.read(f"http://other{path}")


@pytest.mark.parametrize("path", ["/data/upload/12/front.jpg", "/data/local-files/?d=front.jpg"])
def test_two_servers_below_one_host_may_have_one_path_for_two_images(tmp_path: Path, path: str) -> None:
    """They have one id, as if they were one Label Studio that has moved, but not one file."""
    images = CachedImages(Counting(), tmp_path, 10_000)
    first, second = (images.read(f"https://cdn/{kind}{path}") for kind in ("tables", "chairs"))
    assert first != second
    assert images.read(f"https://CDN/tables{path}") == first


def test_errors_are_not_kept(tmp_path: Path) -> None:
    inner = Counting()
    images = CachedImages(inner, tmp_path, 10_000)
    for _ in range(2):
        with pytest.raises(ImageError):
            images.read("http://h/missing.jpg")
    assert len(inner.reads) == 2


def test_what_is_near_already_is_not_kept(tmp_path: Path) -> None:
    inner = Counting()
    images = CachedImages(inner, tmp_path, 10_000, skip=lambda uri: uri == "a.jpg")
    images.read("a.jpg")
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]]
)
def test_a_file_that_is_not_whole_is_fetched_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    inner = Counting()
    images = CachedImages(inner, tmp_path, 10_000)
    first = images.read("http://h/a.jpg")
    (path,) = stored(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert images.read("http://h/a.jpg") == first
    assert images.read("http://h/a.jpg") == first
    assert len(inner.reads) == 2


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    inner = Counting(size=1000)
    images = CachedImages(inner, tmp_path, 10_500)
    for number in range(9):
        images.read(f"http://h/{number}.jpg")
    for age, path in enumerate(sorted(stored(tmp_path), key=lambda path: path.name.split("-")[1])):
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    images.read("http://h/0.jpg")  # the oldest, but just used
    for number in range(9, 12):
        images.read(f"http://h/{number}.jpg")
    assert sum(path.stat().st_size for path in stored(tmp_path)) <= 10_500
    names = {path.name.split("-")[1] for path in stored(tmp_path)}
    assert {"0.jpg", "11.jpg", "8.jpg"} <= names
    assert not {"1.jpg", "2.jpg"} & names


def test_a_cache_that_was_filled_by_others_is_counted(tmp_path: Path) -> None:
    for number in range(9):
        CachedImages(Counting(size=1000), tmp_path, 100_000).read(f"http://h/{number}.jpg")
    CachedImages(Counting(size=1000), tmp_path, 5_000).read("http://h/new.jpg")
    assert sum(path.stat().st_size for path in stored(tmp_path)) <= 5_000


def test_an_image_larger_than_the_cache_is_passed_on(tmp_path: Path) -> None:
    images = CachedImages(Counting(size=1000), tmp_path, 500)
    assert len(images.read("http://h/a.jpg")) > 1000
    assert stored(tmp_path) == []


def test_on_a_full_disk_images_are_passed_on(tmp_path: Path, run_worker: Run) -> None:
    assert run_worker("cache_when_full", tmp_path, 1000) == ["1001", "1001", "[]"]


def test_a_cache_folder_that_cannot_be_made_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    images = CachedImages(Counting(), tmp_path / "file" / "cache", 10_000)
    assert len(images.read("http://h/a.jpg")) == len(images.read("http://h/b.jpg"))
    assert caplog.text.count("not cached") == 1
