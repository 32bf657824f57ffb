import asyncio
import gzip
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taxonomist.storage.images import allowed_hosts
from taxonomist.storage.images import http as images_http
from taxonomist.storage.images.http import Credential, HttpImages
from taxonomist.taxonomy.errors import (
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
)
from tests.storage.conftest import Handler, Web

IMAGE = b"\x89PNG" + bytes(range(256)) * 4


@pytest.fixture
def images(web: Web, open_images: Callable[..., HttpImages]) -> HttpImages:
    return open_images(web.host)


def test_an_image_is_read_and_the_connection_used_again(web: Web, images: HttpImages) -> None:
    web.route("/a.png", data=IMAGE)
    assert images.read(f"{web.url}/a.png?size=1") == IMAGE
    assert images.read(f"{web.url}/a.png") == IMAGE
    assert [path for path, _ in web.requests] == ["/a.png?size=1", "/a.png"]


def test_many_threads_read_at_once(web: Web, images: HttpImages) -> None:
    for number in range(40):
        web.route(f"/{number}", data=b"%d" % number)
    got: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda n=number: got.update({n: images.read(f"{web.url}/{n}")})) for number in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: b"%d" % number for number in range(40)}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ImageNotFoundError),
        (410, ImageNotFoundError),
        (401, ImageForbiddenError),
        (403, ImageForbiddenError),
        (400, ImageUnavailableError),
        (429, ImageUnavailableError),
        (500, ImageUnavailableError),
        (503, ImageUnavailableError),
        (304, ImageUnavailableError),
        (302, ImageUnavailableError),  # without saying where to
    ],
)
def test_each_status_has_its_error(web: Web, images: HttpImages, status: int, error: type[Exception]) -> None:
    web.route("/a.png", status)
    with pytest.raises(error, match=str(status)):
        images.read(f"{web.url}/a.png?sig=secret")


def test_the_query_may_be_a_signature_and_is_not_shown(web: Web, images: HttpImages) -> None:
    with pytest.raises(ImageNotFoundError) as caught:
        images.read(f"{web.url}/a.png?sig=secret")
    assert "secret" not in str(caught.value)


def test_an_empty_answer_is_no_image(web: Web, images: HttpImages) -> None:
    web.route("/a.png", data=b"")
    with pytest.raises(ImageUnavailableError, match="empty"):
        images.read(f"{web.url}/a.png")


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.png",
        "/etc/passwd",
        "../a.png",
        "http:///a.png",
        "http://user:pass@127.0.0.1/a.png",
        "http://[::1/a.png",
        "http://127.0.0.1:99999/a.png",
        "gopher://127.0.0.1:70/_GET",
        "",
    ],
)
def test_addresses_that_are_never_fetched(open_images: Callable[..., HttpImages], uri: str) -> None:
    with pytest.raises(ImageForbiddenError):
        open_images("127.0.0.1", "127.0.0.1:70").read(uri)


def test_no_request_goes_to_a_host_that_is_not_allowed(web: Web, open_images: Callable[..., HttpImages]) -> None:
    for images in (open_images(), open_images("localhost"), open_images("127.0.0.1"), open_images("127.0.0.1:1")):
        with pytest.raises(ImageForbiddenError, match=rf"{web.host}.*TAXONOMIST_ALLOWED_IMAGE_HOSTS"):
            images.read(f"{web.url}/a.png")
    assert web.requests == []


def test_redirects_to_allowed_hosts_are_followed(
    web: Web, start_web: Callable[[], Web], open_images: Callable[..., HttpImages]
) -> None:
    other = start_web()
    web.route("/a.png", 302, headers={"Location": "/b/c.png"})
    web.route("/b/c.png", 307, headers={"Location": "d.png"})
    web.route("/b/d.png", 308, headers={"Location": f"{other.url}/e.png"})
    other.route("/e.png", data=IMAGE)
    assert open_images(web.host, other.host).read(f"{web.url}/a.png") == IMAGE


@pytest.mark.parametrize(
    "place", ["{other}/secret", "file:///etc/passwd", "//{host}/secret", "http://169.254.169.254/"]
)
def test_a_redirect_to_a_private_address_is_refused(
    web: Web, start_web: Callable[[], Web], images: HttpImages, place: str
) -> None:
    other = start_web()
    other.route("/secret", data=b"secret")
    web.route("/a.png", 302, headers={"Location": place.format(other=other.url, host=other.host)})
    with pytest.raises(ImageForbiddenError):
        images.read(f"{web.url}/a.png")
    assert other.requests == []


@pytest.mark.parametrize("host", ["bücher.invalid", "xn--bcher-kva.invalid", "BÜCHER.invalid", "bücher.invalid."])
def test_names_beyond_ascii_are_understood(open_images: Callable[..., HttpImages], host: str) -> None:
    with pytest.raises(ImageUnavailableError, match="cannot be fetched"):  # allowed, but there is no such host
        open_images("bücher.invalid", "xn--bcher-kva.invalid").read(f"http://{host}/a.png")


@pytest.mark.parametrize("host", ["evil\t.local", "a\n.local", "a%2elocal", "a。local", "[::1%25a]"])
def test_names_that_can_be_read_in_two_ways_go_nowhere(open_images: Callable[..., HttpImages], host: str) -> None:
    with pytest.raises((ImageForbiddenError, ImageUnavailableError)):
        open_images("evil.local", "a.local", "[::1]").read(f"http://{host}/a.png")


def test_redirects_in_a_circle_end(web: Web, images: HttpImages) -> None:
    web.route("/a.png", 302, headers={"Location": "/a.png"})
    with pytest.raises(ImageUnavailableError, match="more than 5 redirects"):
        images.read(f"{web.url}/a.png")
    assert len(web.requests) == 6


def test_a_credential_never_leaves_its_origin(
    web: Web, start_web: Callable[[], Web], open_images: Callable[..., HttpImages]
) -> None:
    other = start_web()
    web.route("/a.png", 302, headers={"Location": f"{other.url}/b.png"})
    other.route("/b.png", 302, headers={"Location": f"{web.url}/c.png"})
    web.route("/c.png", data=IMAGE)
    credential = Credential(("http", "127.0.0.1", web.port), {"Authorization": "Token secret"})
    # Its own origin need not be allowed apart.
    assert open_images(other.host).fetch(f"{web.url}/a.png", credential).data == IMAGE
    assert ["Authorization" in headers for _, headers in web.requests + other.requests] == [True, True, False]


def test_too_large_by_its_own_word(web: Web, images: HttpImages) -> None:
    web.route("/a.png", headers={"Content-Length": "10001"})
    with pytest.raises(ImageTooLargeError, match=r"10,000 bytes.*TAXONOMIST_MAX_IMAGE_BYTES"):
        images.read(f"{web.url}/a.png")


def test_too_large_without_a_word(web: Web, images: HttpImages) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.stopped.is_set():
            handler.wfile.write(b"x" * 1000)

    web.routes["/a.png"] = endless
    with pytest.raises(ImageTooLargeError):
        images.read(f"{web.url}/a.png")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, gzip", "identity, zstd"])
def test_a_compressed_answer_is_refused_unread(web: Web, images: HttpImages, encoding: str) -> None:
    """A doubly compressed one of 1.8 kB would take gigabytes."""
    bomb = gzip.compress(gzip.compress(b"x" * 20_000_000))
    web.route("/a.png", data=bomb, headers={"Content-Encoding": encoding})
    with pytest.raises(ImageUnavailableError, match=r"answers compressed .* asked for plain bytes"):
        images.read(f"{web.url}/a.png")
    (asked,) = web.requests
    assert asked[1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "aws-chunked", "utf-8", ""])
def test_an_encoding_that_is_no_compression_changes_nothing(web: Web, images: HttpImages, encoding: str) -> None:
    web.route("/a.png", data=IMAGE, headers={"Content-Encoding": encoding})
    assert images.read(f"{web.url}/a.png") == IMAGE


def test_exactly_the_limit_is_not_too_large(web: Web, images: HttpImages) -> None:
    web.route("/a.png", data=b"x" * 10_000)
    assert len(images.read(f"{web.url}/a.png")) == 10_000


def silent(handler: Handler) -> None:
    handler.stopped.wait()


def slow_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.stopped.wait(0.02):
        handler.wfile.write(b"x")


def trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    while not handler.stopped.wait(0.02):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("route", [silent, slow_headers, trickle])
def test_a_slow_server_is_given_up(
    web: Web, open_images: Callable[..., HttpImages], route: Callable[[Handler], None]
) -> None:
    web.routes["/a.png"] = route
    web.route("/b.png", data=IMAGE)
    images = open_images(web.host, timeout_s=0.4)
    with pytest.raises(ImageUnavailableError, match=r"within 0\.4 seconds"):
        images.read(f"{web.url}/a.png")
    assert images.read(f"{web.url}/b.png") == IMAGE


def test_a_cut_body_is_no_image(web: Web, images: HttpImages) -> None:
    def cut(handler: Handler) -> None:
        handler.reply(200, b"half", {"Content-Length": "100"})
        handler.close_connection = True

    web.routes["/a.png"] = cut
    with pytest.raises(ImageUnavailableError, match="cannot be fetched"):
        images.read(f"{web.url}/a.png")


def test_nobody_listens(open_images: Callable[..., HttpImages]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ImageUnavailableError):
            open_images(host).read(f"http://{host}/a.png")


def test_closed_images_can_be_used_again(web: Web, images: HttpImages) -> None:
    web.route("/a.png", data=IMAGE)
    for _ in range(2):
        assert images.read(f"{web.url}/a.png") == IMAGE
        images.close()


def test_below_a_suffix_requests_go_to_public_addresses_only(open_images: Callable[..., HttpImages]) -> None:
    with pytest.raises(ImageForbiddenError, match=r"resolves to 127\.0\.0\.1, which is not a public address"):
        open_images("*.0.0.1").read("http://127.0.0.1/a.png")


def test_a_host_that_two_parsers_read_differently_is_not_asked(open_images: Callable[..., HttpImages]) -> None:
    host = "images。company.test"  # with another full stop
    with pytest.raises(ImageForbiddenError, match="is ambiguous"):
        open_images(host).read(f"http://{host}/a.png")


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"])
def test_a_name_of_metadata_is_never_asked(
    open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The name server is played: none here knows such a name."""

    def look_up(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, 80)) for found in ("127.0.0.1", address)]

    images = open_images("images.company.test")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(ImageForbiddenError, match=f"resolves to {address}, where machines find credentials"):
            images.read("http://images.company.test/a.png")


def test_below_a_suffix_the_request_goes_to_the_checked_address(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that says something else the second time (DNS rebinding). There is none here that we could make do
    so, nor a public address to reach: both are played."""
    lookups: list[str] = []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setitem(allowed_hosts._PORTS, "http", web.port)
    web.route("/a.png", data=IMAGE)
    images = open_images("*.example.com")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        patch.setattr(images_http, "is_public", lambda address: address == "127.0.0.1")
        assert images.read(f"http://images.example.com:{web.port}/a.png") == IMAGE
    assert lookups[0] == "images.example.com"
    assert web.requests[0][1]["Host"] == f"images.example.com:{web.port}"


def test_it_works_and_closes_where_another_loop_runs(open_images: Callable[..., HttpImages], web: Web) -> None:
    web.route("/a.jpg", data=b"bytes")

    async def elsewhere() -> bytes:
        images = open_images(f"127.0.0.1:{web.port}")
        data = images.read(f"{web.url}/a.jpg")
        images.close()
        return data

    with ThreadPoolExecutor(1) as another_thread:  # whatever runs in this one
        assert another_thread.submit(lambda: asyncio.run(elsewhere())).result() == b"bytes"
