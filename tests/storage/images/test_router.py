from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.storage.images.folder import FolderImages
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import ImageForbiddenError
from tests.storage.conftest import Web


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"an image")
    return root


def test_each_form_goes_its_way(folder: Path, web: Web, start_web: Callable[[], Web]) -> None:
    other = start_web()
    web.route("/data/upload/4/a.jpg", data=b"upload")
    web.route("/image.jpg", data=b"on its host")
    other.route("/a.jpg", data=b"elsewhere")
    with HttpImages([other.host], 100, 5.0) as http:
        label_studio = LabelStudioImages(web.url, lambda: "token", http)
        routed = RoutedImages(http=http, label_studio=label_studio, folder=FolderImages(folder, 100))
        assert routed.read("/data/upload/4/a.jpg") == b"upload"
        assert routed.read(f"{web.url}/image.jpg") == b"on its host"
        assert routed.read(f"{other.url}/a.jpg") == b"elsewhere"
        assert routed.read("a.jpg") == b"an image"
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
        for uri, setting in [
            ("/data/upload/4/a.jpg", "TAXONOMIST_LABEL_STUDIO_URL"),
            ("a.jpg", "TAXONOMIST_IMAGES_FOLDER"),
        ]:
            with pytest.raises(ImageForbiddenError, match=setting):
                routed.read(uri)


def test_without_an_account_the_setting_is_named() -> None:
    with (
        HttpImages([], 100, 5.0) as http,
        pytest.raises(ImageForbiddenError, match="TAXONOMIST_BLOB_CONNECTION_STRING"),
    ):
        RoutedImages(http=http).read("azure-blob://catalogue/a.jpg")
