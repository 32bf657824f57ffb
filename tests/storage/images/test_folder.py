import os
from pathlib import Path

import pytest

from taxonomist.storage.images.folder import FolderImages
from taxonomist.taxonomy.errors import ImageForbiddenError, ImageNotFoundError, ImageTooLargeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"an image")
    (root / "sub" / "Bäder 1#2?.jpg").write_bytes(b"another")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "images-of-others").mkdir()
    (tmp_path / "images-of-others" / "a.jpg").write_bytes(b"secret")
    return root


def test_files_of_the_folder(folder: Path) -> None:
    images = FolderImages(folder, 100)
    assert images.read("a.jpg") == images.read("./sub/../a.jpg") == images.read(str(folder / "a.jpg")) == b"an image"
    assert images.read("sub/Bäder 1#2?.jpg") == b"another"


def test_links_may_stay_inside(folder: Path) -> None:
    (folder / "link.jpg").symlink_to("a.jpg")
    assert FolderImages(folder, 100).read("link.jpg") == b"an image"


def test_links_lead_only_where_they_may(folder: Path, tmp_path: Path) -> None:
    """A linked file and a linked folder lead into `store`; a path with `..` is no link, wherever it leads."""
    store = tmp_path / "store"
    (store / "objects").mkdir(parents=True)
    (store / "objects" / "key").write_bytes(b"an object")
    (folder / "linked.jpg").symlink_to("../store/objects/key")
    (folder / "linked").symlink_to(store)
    (folder / "out").symlink_to(tmp_path / "secret")
    (store / "out").symlink_to(tmp_path / "secret")
    images = FolderImages(folder, 100, [store])
    assert images.read("linked.jpg") == images.read("linked/objects/key") == images.read("./linked.jpg") == b"an object"
    for uri in (
        "out",
        "linked/out",
        "../store/objects/key",
        "sub\\..\\..\\store\\objects\\key",
        "sub/../../store/objects/key",
        f"{store}/objects/key",
    ):
        with pytest.raises(ImageForbiddenError):
            images.read(uri)


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
    assert FolderImages(folder, 8).read("a.jpg") == b"an image"
    with pytest.raises(ImageTooLargeError, match="TAXONOMIST_MAX_IMAGE_BYTES"):
        FolderImages(folder, 7).read("a.jpg")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError):
        FolderImages(tmp_path / "nowhere", 100).read("a.jpg")
