"""Images in S3, Google Cloud Storage and Azure, read through the storages of a project in Label Studio.

Label Studio's resolver answers as release 1.23.2 does: with the bytes, with a redirect (303) to a signed address, with
404 without a storage for the bucket, with 424 when the storage does not give the object.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

import pytest

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages
from taxonomist.taxonomy.errors import ImageForbiddenError, ImageNotFoundError, ImageUnavailableError
from tests.storage.conftest import Handler, Web

RESOLVER = "/projects/4/resolve/"
URIS = ["s3://photos/set/a b#1.jpg", "gs://photos/Bäder?.jpg", "azure-blob://photos/100%.jpg"]


def inner(path: str) -> str:
    """Return the address in a request to the resolver, as Label Studio decodes it."""
    (code,) = parse_qs(path.partition("?")[2])["fileuri"]
    return base64.urlsafe_b64decode(code).decode()


def answer(handler: Handler) -> None:
    allowed = handler.headers.get("Authorization") == "Token secret"
    handler.reply(200 if allowed else 401, inner(handler.path).encode() if allowed else b"")


@pytest.fixture
def http() -> Iterator[HttpImages]:
    with HttpImages([], 10_000, 5.0) as http:
        yield http


def images_of(web: Web, http: HttpImages, project: str | None = "4") -> LabelStudioImages:
    return LabelStudioImages(web.url, lambda: "secret", http, project=project)


@pytest.mark.parametrize("uri", URIS)
def test_label_studio_sends_the_bytes(web: Web, http: HttpImages, uri: str) -> None:
    web.routes[RESOLVER] = answer
    images = images_of(web, http)
    assert images.owns(uri)
    assert images.read(uri).decode() == uri


def test_an_older_release_calls_its_resolver_otherwise(web: Web, http: HttpImages) -> None:
    web.routes["/projects/4/presign/"] = answer
    assert images_of(web, http).read("s3://photos/resolve/?.jpg") == b"s3://photos/resolve/?.jpg"


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("site", ["", "/labels", "https://labels.example", "{url}"])
def test_the_addresses_that_browsers_see_are_the_same_image(web: Web, http: HttpImages, site: str, uri: str) -> None:
    """The look-alike panel gets Label Studio's resolver with a task that may be gone by now."""
    web.routes[RESOLVER] = answer
    shown = f"{site.format(url=web.url)}/tasks/7/resolve/?fileuri={base64.urlsafe_b64encode(uri.encode()).decode()}"
    assert image_id(shown) == image_id(uri)
    assert images_of(web, http).read(shown).decode() == uri


@pytest.mark.parametrize("uri", URIS)
def test_a_signed_address_on_an_allowed_host(web: Web, start_web: Callable[[], Web], uri: str) -> None:
    store = start_web()
    store.route("/photos/a.jpg", data=b"the image")
    signed = f"{store.url}/photos/a.jpg?X-Amz-Signature=topsecret"
    web.route(RESOLVER, 303, headers={"Location": signed})
    with HttpImages([store.host], 10_000, 5.0) as allowed:
        assert images_of(web, allowed).read(uri) == b"the image"
    ((path, headers),) = store.requests
    assert path == "/photos/a.jpg?X-Amz-Signature=topsecret"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("allowed", "place"),
    [
        ([], "127.0.0.1:{port}"),
        ([], "169.254.169.254"),
        (["*.nip.io"], "10.0.0.5.nip.io:{port}"),
        (["127.0.0.1"], "127.0.0.1:{port}"),  # the default port only
    ],
)
def test_a_signed_address_elsewhere_is_not_requested(
    web: Web, start_web: Callable[[], Web], allowed: list[str], place: str
) -> None:
    """Who may change a storage in Label Studio chooses its endpoint, which may be any address of our network."""
    store = start_web()
    host = place.format(port=store.port)
    web.route(RESOLVER, 303, headers={"Location": f"http://{host}/photos/a.jpg?X-Amz-Signature=topsecret"})
    with HttpImages(allowed, 10_000, 5.0) as http, pytest.raises(ImageForbiddenError) as error:
        images_of(web, http).read("s3://photos/a.jpg")
    assert store.requests == []
    for part in ("s3://photos/a.jpg", f'"{host}"', "TAXONOMIST_ALLOWED_IMAGE_HOSTS", "pre-signed URLs"):
        assert part in str(error.value)
    assert "topsecret" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (404, ImageForbiddenError, "Cloud Storage of the project"),
        (424, ImageUnavailableError, "credentials"),
        (403, ImageForbiddenError, "token"),
        (500, ImageUnavailableError, "500"),
    ],
)
def test_what_the_resolver_answers(web: Web, http: HttpImages, status: int, error: type[Exception], says: str) -> None:
    web.route(RESOLVER, status)
    with pytest.raises(error, match=says):
        images_of(web, http).read("s3://photos/a.jpg")


def test_an_object_that_is_gone(web: Web, start_web: Callable[[], Web]) -> None:
    store = start_web()
    web.route(RESOLVER, 303, headers={"Location": f"{store.url}/photos/a.jpg"})
    with HttpImages([store.host], 10_000, 5.0) as http, pytest.raises(ImageNotFoundError):
        images_of(web, http).read("s3://photos/a.jpg")


@pytest.mark.parametrize("uri", URIS)
def test_without_a_project_it_says_what_to_do(web: Web, http: HttpImages, uri: str) -> None:
    for label_studio in (None, images_of(web, http, None)):
        images = RoutedImages(http=http, label_studio=label_studio)
        with pytest.raises(ImageForbiddenError, match="taxonomist connect"):
            images.read(uri)
    assert web.requests == []


def test_ways_out_are_no_ways_in(web: Web, http: HttpImages) -> None:
    """A name is the store's own affair: it reaches Label Studio's resolver as it is, and no other path."""
    web.routes[RESOLVER] = answer
    for uri in ("s3://photos/../../api/users", "s3://photos/%2e%2e/a.jpg", "s3://../a.jpg"):
        assert images_of(web, http).read(uri).decode() == uri
    assert {path.partition("?")[0] for path, _ in web.requests} == {RESOLVER}
