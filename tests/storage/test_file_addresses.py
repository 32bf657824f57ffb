"""Addresses of files on the disk: their paths may look like those of Label Studio."""

from __future__ import annotations

import posixpath
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxonomist.storage.addresses import file_address, file_path, is_ambiguous_path, parse_address
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import ImageForbiddenError

SITES = ("http://ls.example:8080", "https://labels.example/labels")
PIECES = (
    *("/data", "/upload", "/data/upload", "/local-files", "/storage-data", "/tasks/7/resolve", "/projects/4/presign"),
    *("/4", "/0a1b2c3d-x.jpg", "/x.jpg", "?d=a.jpg", "?fileuri=czM6Ly9iL2E", "#1", " ", "\\", "/labels", "/ä"),
    "/a\u0308",
)
PATHS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
DISK = PATHS.map(posixpath.normpath).filter(lambda path: path.startswith("/") and not path.startswith("//"))


@pytest.mark.parametrize(
    "path",
    [
        "/original/data/upload/4/0a1b2c3d-x.jpg",
        "/data/upload/4/0a1b2c3d-x.jpg",
        "/data/upload/4/x.jpg",
        "/data/upload/4/deeper/x.jpg",
        "/srv/data/local-files/?d=x.jpg",
        "/tasks/7/resolve/?fileuri=czM6Ly9iL2E",
        "/labels/storage-data/uploaded/x.jpg",
        "/labels/data/upload ",
    ],
)
def test_a_path_that_may_be_label_studios(path: str) -> None:
    address = file_address(path)
    assert (address, file_path(address)) == (f"file:{path}", path)
    assert image_id(address) != image_id(path)
    assert is_ambiguous_path(path)
    assert not is_ambiguous_path(address)


@pytest.mark.parametrize(
    "path", ["/srv/a.jpg", "/data/uploads/4/x.jpg", "/data/images/upload/4/x.jpg", "C:/data/upload/4/x"]
)
def test_other_paths_are_their_addresses(path: str) -> None:
    """So images that were imported keep their ids."""
    assert (file_address(path), file_path(path)) == (path, path)


def test_other_file_addresses_stay_what_they_were() -> None:
    for address in ("file:///srv/a.jpg", "file:/srv/a.jpg", "file:a.jpg", "file:", "https://h/data/upload/4/x.jpg"):
        assert file_path(address) == address


@settings(max_examples=500)
@given(DISK, st.sampled_from(["", *SITES, "https://labels.example"]), PATHS)
def test_a_file_is_never_an_image_of_label_studio(path: str, site: str, below: str) -> None:
    with HttpImages([], 10) as http:
        label_studio = LabelStudioImages(SITES[0], str, http, other_urls=SITES[1:])
        address = file_address(path)
        assert not label_studio.owns(address)
        if label_studio.owns(site + below):
            assert image_id(site + below) != image_id(address)


@given(DISK, DISK)
def test_files_are_one_image_when_their_paths_look_the_same(first: str, second: str) -> None:
    def seen(path: str) -> str:
        return unicodedata.normalize("NFC", posixpath.normpath(path.replace("\\", "/")))

    if seen(first) != seen(second):
        assert image_id(file_address(first)) != image_id(file_address(second))


def test_a_task_cannot_read_the_disk_by_such_an_address() -> None:
    with HttpImages([], 10) as http, pytest.raises(ImageForbiddenError):
        RoutedImages(http=http).read("file:/srv/data/upload/4/0a1b2c3d-x.jpg")
    assert parse_address("file:/srv/data/upload/4/0a1b2c3d-x.jpg").url == ""
