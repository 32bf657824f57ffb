"""One Label Studio with several addresses, below a path of a proxy, and beside other things on its host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import ImageForbiddenError
from tests.storage.conftest import Handler, Web

IMAGE = b"\xff\xd8 an image"
OUTER = ("https://labels.example/labels", "http://10.1.2.3:8080")
UPLOAD = "/data/upload/4/3f2a1b0c-a.jpg"


def answer(handler: Handler) -> None:
    """Answer as Label Studio does, which wants a token."""
    allowed = handler.headers.get("Authorization") == "Token secret"
    handler.reply(200 if allowed else 401, IMAGE if allowed else b"")


@pytest.fixture
def http() -> Iterator[HttpImages]:
    with HttpImages([], 10_000, 5.0) as http:
        yield http


def images_of(web: Web, http: HttpImages, path: str = "", others: tuple[str, ...] = OUTER) -> LabelStudioImages:
    for route in (UPLOAD, "/data/upload/4/a.jpg", "/data/local-files/", "/tasks/7/resolve/", "/storage-data/uploaded/"):
        web.routes[path + route] = answer
    return LabelStudioImages(web.url + path, lambda: "secret", http, other_urls=others)


@pytest.mark.parametrize("path", ["", "/inner"])
@pytest.mark.parametrize(
    "uri",
    [
        UPLOAD,
        f"/labels{UPLOAD}",
        f"/an/older/place{UPLOAD}",
        "/labels/data/upload/4/a.jpg",
        "https://labels.example/labels/data/upload/4/a.jpg",
        "http://labels.example/labels/data/upload/4/a.jpg",
        "https://LABELS.example:443/labels/data/upload/4/a.jpg",
        "http://10.1.2.3:8080/data/upload/4/a.jpg",
        "https://labels.example/labels/data/local-files/?d=set/a.jpg",
        "/labels/data/local-files/?d=set/a.jpg",
        "/labels/tasks/7/resolve/?fileuri=czM6Ly9iL2E",
        "https://labels.example/labels/tasks/7/resolve/?fileuri=czM6Ly9iL2E",
        "https://labels.example/labels/storage-data/uploaded/?filepath=upload/4/a.jpg",
        "{url}/data/upload/4/a.jpg",
    ],
)
def test_each_address_is_read_at_the_inner_one(web: Web, http: HttpImages, path: str, uri: str) -> None:
    images = images_of(web, http, path)
    uri = uri.format(url=web.url + path)
    assert images.owns(uri)
    assert images.read(uri) == IMAGE
    assert all(requested.startswith(f"{path}/") for requested, _ in web.requests)


@pytest.mark.parametrize(
    "form",
    ["{}", "/labels{}", "https://labels.example/labels{}", "http://10.1.2.3:8080{}", "http://label-studio{}?t=1"],
)
def test_an_upload_is_one_image_at_all_addresses(form: str) -> None:
    assert image_id(form.format(UPLOAD)) == image_id(UPLOAD)


@pytest.mark.parametrize(
    "uri",
    [
        "https://labels.example/data/upload/4/a.jpg",  # beside the path of Label Studio
        "https://labels.example/labels/pictures/a.jpg",
        "https://labels.example/labelsx/data/upload/4/a.jpg",
        "https://labels.example:8443/labels/data/upload/4/a.jpg",
        "https://labels.example.evil/labels/data/upload/4/a.jpg",
        "https://user@labels.example/labels/data/upload/4/a.jpg",
        "http://10.1.2.3/data/upload/4/a.jpg",
        "/other/data/upload/4/a.jpg",  # on the disk: Label Studio's uploads have eight digits
        "/storage-data/a.jpg",
        "//labels.example/labels/data/upload/4/3f2a1b0c-a.jpg",
    ],
)
def test_what_is_at_none_of_the_addresses(web: Web, http: HttpImages, uri: str) -> None:
    images = images_of(web, http)
    assert not images.owns(uri)
    with pytest.raises(ImageForbiddenError):
        images.read(uri)
    assert web.requests == []


def test_ways_out_of_the_path_are_not_requested(web: Web, http: HttpImages) -> None:
    images = images_of(web, http, "/labels", ("https://labels.example/labels",))
    for site in (f"{web.url}/labels", "https://labels.example/labels", "/labels"):
        for way in ("/../admin", "/data/upload/../../../admin", "/data/upload/%2e%2e/%2e%2e/%2e%2e/admin"):
            with pytest.raises(ImageForbiddenError):
                images.read(site + way)
    assert web.requests == []


def test_another_application_on_the_host_gets_no_token(web: Web) -> None:
    """Label Studio is below /labels; what is beside it on the host is another program."""
    web.route("/shop/a.jpg", data=IMAGE)
    web.route("/labels/data/upload/4/a.jpg", 302, headers={"Location": "/shop/a.jpg"})
    web.route("/labels/data/upload/4/b.jpg", 302, headers={"Location": f"{web.url}/labels/../shop/a.jpg"})
    with HttpImages([], 10_000, 5.0) as nothing, HttpImages([web.host], 10_000, 5.0) as allowed:
        for name in ("a.jpg", "b.jpg"):
            images = LabelStudioImages(f"{web.url}/labels", lambda: "secret", nothing)
            assert not images.owns(f"{web.url}/shop/a.jpg")
            with pytest.raises(ImageForbiddenError, match="TAXONOMIST_ALLOWED_IMAGE_HOSTS"):
                images.read(f"/data/upload/4/{name}")
            images = LabelStudioImages(f"{web.url}/labels", lambda: "secret", allowed)
            assert images.read(f"/data/upload/4/{name}") == IMAGE
    seen = [(path, "Authorization" in headers) for path, headers in web.requests]
    assert {token for path, token in seen if path.startswith("/shop")} == {False}
    assert {token for path, token in seen if path.startswith("/labels/data")} == {True}


def test_the_token_goes_to_no_address_but_the_inner_one(
    web: Web, start_web: Callable[[], Web], http: HttpImages
) -> None:
    """The outer address may be anybody's by now."""
    outer = start_web()
    images = images_of(web, http, others=(outer.url,))
    assert images.read(f"{outer.url}{UPLOAD}") == IMAGE
    web.route(UPLOAD, 302, headers={"Location": f"{outer.url}{UPLOAD}"})
    outer.route(UPLOAD, data=IMAGE)
    with pytest.raises(ImageForbiddenError):
        images.read(UPLOAD)
    assert outer.requests == []


def test_an_unknown_address_of_label_studio_says_what_to_set(web: Web, http: HttpImages) -> None:
    images = RoutedImages(http=http, label_studio=images_of(web, http, others=()))
    with pytest.raises(ImageForbiddenError, match="TAXONOMIST_LABEL_STUDIO_ADDRESSES"):
        images.read(f"https://labels.example{UPLOAD}")
    with pytest.raises(ImageForbiddenError) as error:
        images.read("https://pictures.example/a.jpg")
    assert "TAXONOMIST_LABEL_STUDIO_ADDRESSES" not in str(error.value)
