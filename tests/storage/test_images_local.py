import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.storage.images.cache import CachedImages
from taxonomist.storage.images.folder import FolderImages
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import ImageError, ImageForbiddenError, ImageNotFoundError, ImageTooLargeError
from tests.storage.conftest import Web

Run = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"a picture")
    (root / "sub" / "Bäder 1#2?.jpg").write_bytes(b"another")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "images-of-others").mkdir()
    (tmp_path / "images-of-others" / "a.jpg").write_bytes(b"secret")
    return root


def test_files_of_the_folder(folder: Path) -> None:
    images = FolderImages(folder, 100)
    assert images.read("a.jpg") == images.read("./sub/../a.jpg") == images.read(str(folder / "a.jpg")) == b"a picture"
    assert images.read("sub/Bäder 1#2?.jpg") == b"another"


def test_links_may_stay_inside(folder: Path) -> None:
    (folder / "link.jpg").symlink_to("a.jpg")
    assert FolderImages(folder, 100).read("link.jpg") == b"a picture"


@pytest.mark.parametrize(
    "uri",
    [
        "../secret",
        "sub/../../secret",
        "{tmp}/secret",
        "../images-of-others/a.jpg",
        "/etc/passwd",
        "out",
        "out-folder/a.jpg",
        "file:///etc/passwd",
        "file://{tmp}/images/a.jpg",
        "http://host/a.jpg",
        "a\0.jpg",
    ],
)
def test_nothing_outside_is_read(folder: Path, tmp_path: Path, uri: str) -> None:
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "out-folder").symlink_to(tmp_path / "images-of-others")
    with pytest.raises(ImageForbiddenError):
        FolderImages(folder, 100).read(uri.format(tmp=tmp_path))


@pytest.mark.parametrize("uri", ["b.jpg", "sub", "a.jpg/b", "", ".", "x" * 5000, "pipe", "broken-link"])
def test_what_is_no_file_is_not_there(folder: Path, uri: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "broken-link").symlink_to("nowhere")
    with pytest.raises((ImageNotFoundError, ImageForbiddenError)):
        FolderImages(folder, 100).read(uri)


def test_a_file_beyond_the_limit(folder: Path) -> None:
    assert FolderImages(folder, 9).read("a.jpg") == b"a picture"
    with pytest.raises(ImageTooLargeError, match="max_image_bytes"):
        FolderImages(folder, 8).read("a.jpg")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError):
        FolderImages(tmp_path / "nowhere", 100).read("a.jpg")


def test_each_form_goes_its_way(folder: Path, web: Web, start_web: Callable[[], Web]) -> None:
    other = start_web()
    web.route("/data/upload/4/a.jpg", data=b"upload")
    web.route("/picture.jpg", data=b"on its host")
    other.route("/a.jpg", data=b"elsewhere")
    with HttpImages([other.host], 100, 5.0) as http:
        label_studio = LabelStudioImages(web.url, lambda: "token", http)
        routed = RoutedImages(http=http, label_studio=label_studio, folder=FolderImages(folder, 100))
        assert routed.read("/data/upload/4/a.jpg") == b"upload"
        assert routed.read(f"{web.url}/picture.jpg") == b"on its host"
        assert routed.read(f"{other.url}/a.jpg") == b"elsewhere"
        assert routed.read("a.jpg") == b"a picture"
        assert [routed.needs_no_cache(uri) for uri in ("a.jpg", "http://h/a.jpg", "/data/upload/4/a.jpg")] == [
            True,
            False,
            False,
        ]
        for uri in ("file:///etc/passwd", "ftp://h/a.jpg", "data:image/png;base64,AA", "//h/a.jpg", "../secret"):
            with pytest.raises(ImageForbiddenError):
                routed.read(uri)
    assert [headers.get("Authorization") for _, headers in web.requests] == ["Token token"] * 2
    assert [headers.get("Authorization") for _, headers in other.requests] == [None]


def test_what_is_not_set_up_names_the_setting() -> None:
    with HttpImages([], 100, 5.0) as http:
        routed = RoutedImages(http=http)
        for uri, setting in [("/data/upload/4/a.jpg", "label_studio_url"), ("a.jpg", "images_folder")]:
            with pytest.raises(ImageForbiddenError, match=setting):
                routed.read(uri)


class Counting:
    """Images that count how often they are asked."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.asked: list[str] = []

    def read(self, uri: str) -> bytes:
        self.asked.append(uri)
        if "missing" in uri:
            raise ImageNotFoundError(uri)
        return hashlib.sha256(uri.encode()).digest() * (self.size // 32 + 1)


def stored(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_image_is_fetched_once(tmp_path: Path) -> None:
    inner = Counting()
    first = CachedImages(inner, tmp_path, 10_000).read("http://h/a.jpg")
    assert CachedImages(inner, tmp_path, 10_000).read("https://h/a.jpg") == first
    assert inner.asked == ["http://h/a.jpg"]


def test_errors_are_not_kept(tmp_path: Path) -> None:
    inner = Counting()
    images = CachedImages(inner, tmp_path, 10_000)
    for _ in range(2):
        with pytest.raises(ImageError):
            images.read("http://h/missing.jpg")
    assert len(inner.asked) == 2


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
    assert len(inner.asked) == 2


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


def test_a_cache_folder_that_cannot_be_made_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    images = CachedImages(Counting(), tmp_path / "file" / "cache", 10_000)
    assert len(images.read("http://h/a.jpg")) == len(images.read("http://h/b.jpg"))
    assert caplog.text.count("not cached") == 1
