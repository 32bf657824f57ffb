"""Images through a proxy, or in spite of one; and those of a Label Studio with a company's certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.taxonomy.errors import ConfigError, ImageError, ImageForbiddenError, ImageUnavailableError
from tests.network import Authority, ForwardProxy, Reply, Server

IMAGE = b"\xff\xd8 an image"
Open = Callable[..., HttpImages]
OUTER = "https://labels.company.test/a.jpg"


@pytest.fixture
def open_images(no_network_variables: None) -> Iterator[Open]:
    opened: list[HttpImages] = []

    def make(*allowed: str, proxy: str | None = None, timeout_s: float = 5.0) -> HttpImages:
        opened.append(HttpImages(allowed, 10_000, timeout_s, proxy=proxy))
        return opened[-1]

    yield make
    for images in opened:
        images.close()


@pytest.fixture
def outer(
    forward_proxy: ForwardProxy, plain: Server, secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> ForwardProxy:
    """The world behind the proxy: labels.company.test by http and https, and a secret server."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    names = ("labels.company.test", "x.blob.company.test", "secret.company.test")
    forward_proxy.hosts = {f"{name}:80": plain.port for name in names} | {f"{name}:443": secure.port for name in names}
    plain.replies["/a.jpg"] = secure.replies["/a.jpg"] = Reply(body=IMAGE)
    return forward_proxy


def test_an_image_of_a_server_with_a_companys_certificate(
    secure: Server, authority: Authority, open_images: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure.replies["/a.jpg"] = Reply(body=IMAGE)
    images = open_images(f"127.0.0.1:{secure.port}")
    with pytest.raises(ImageUnavailableError, match=r"certificate is not trusted.*Set SSL_CERT_FILE"):
        images.read(f"{secure.url}/a.jpg")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    images = open_images(f"127.0.0.1:{secure.port}")
    assert images.read(f"{secure.url}/a.jpg") == IMAGE
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/gone/company.pem")
    with pytest.raises(ImageUnavailableError, match=r"REQUESTS_CA_BUNDLE names /gone/company.pem"):
        open_images(f"127.0.0.1:{secure.port}").read(f"{secure.url}/a.jpg")


def test_hosts_in_full_are_read_through_the_proxy(outer: ForwardProxy, open_images: Open) -> None:
    images = open_images("labels.company.test", proxy=outer.url)
    assert images.read(OUTER) == IMAGE
    assert images.read("http://labels.company.test/a.jpg") == IMAGE
    assert outer.passed == ["CONNECT labels.company.test:443", "GET http://labels.company.test/a.jpg"]


def test_proxies_of_the_environment_are_not_for_images(
    outer: ForwardProxy, open_images: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, outer.url)
    with pytest.raises(ImageUnavailableError, match=r"cannot be fetched.*set TAXONOMIST_IMAGE_PROXY"):
        open_images("labels.company.test").read(OUTER)
    assert outer.passed == []


@pytest.mark.parametrize("allowed", [["*.blob.company.test"], ["labels.company.test", "*.company.test"]])
def test_a_host_that_only_a_suffix_allows_is_not_read_through_it(
    outer: ForwardProxy, open_images: Open, allowed: list[str]
) -> None:
    """The proxy would look up the name, and could reach an address of the company's own network."""
    images = open_images(*allowed, proxy=outer.url)
    with pytest.raises(
        ImageForbiddenError, match=r'Add "x.blob.company.test" itself to TAXONOMIST_ALLOWED_IMAGE_HOSTS'
    ):
        images.read("https://x.blob.company.test/a.jpg")
    assert outer.passed == []


@pytest.mark.parametrize(
    "location",
    [
        "https://secret.company.test/a.jpg",
        "http://secret.company.test/a.jpg",
        "http://127.0.0.1/a.jpg",
        "http://169.254.169.254/metadata/identity",
        "https://x.blob.company.test/a.jpg",
        "https://labels.company.test:8443/a.jpg",
        "file:///etc/passwd",
    ],
)
def test_each_redirect_is_checked_behind_a_proxy_too(
    outer: ForwardProxy, plain: Server, open_images: Open, location: str
) -> None:
    plain.redirect("/moved.jpg", location, 302)
    images = open_images("labels.company.test", "*.blob.company.test", proxy=outer.url)
    with pytest.raises(ImageForbiddenError):
        images.read("http://labels.company.test/moved.jpg")
    assert outer.passed == ["GET http://labels.company.test/moved.jpg"]


def test_a_redirect_to_an_allowed_host_is_followed(outer: ForwardProxy, plain: Server, open_images: Open) -> None:
    plain.redirect("/moved.jpg", "https://x.blob.company.test/a.jpg", 301)
    images = open_images("labels.company.test", "x.blob.company.test", proxy=outer.url)
    assert images.read("http://labels.company.test/moved.jpg") == IMAGE
    assert outer.passed[1] == "CONNECT x.blob.company.test:443"


def test_hosts_in_no_proxy_and_loopback_are_read_directly(
    outer: ForwardProxy, plain: Server, open_images: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "company.test")
    images = open_images(f"127.0.0.1:{plain.port}", "labels.company.test", "*.company.test", proxy=outer.url)
    assert images.read(f"{plain.url}/a.jpg") == IMAGE
    with pytest.raises(ImageUnavailableError):  # there is no such name in the real world
        images.read(OUTER)
    assert outer.passed == []


@pytest.mark.parametrize("url", ["https://labels.company.test/a.jpg", "http://labels.company.test/a.jpg"])
def test_errors_name_the_proxy_without_its_password(outer: ForwardProxy, open_images: Open, url: str) -> None:
    outer.login = "user:p@ss"
    right = f"http://user:p%40ss@127.0.0.1:{outer.port}"
    assert open_images("labels.company.test", proxy=right).read(url) == IMAGE
    wrong = f"http://user:wr0ng@127.0.0.1:{outer.port}"
    with pytest.raises(ImageError) as caught:
        open_images("labels.company.test", proxy=wrong).read(url)
    assert f"407 Proxy Authentication Required, through the proxy 127.0.0.1:{outer.port}" in str(caught.value)
    assert "TAXONOMIST_IMAGE_PROXY" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(ImageUnavailableError, match=r"through the proxy 127.0.0.1:1 "):
        open_images("labels.company.test", proxy="http://127.0.0.1:1").read(url)
    with pytest.raises(ConfigError, match="TAXONOMIST_IMAGE_PROXY"):
        open_images(proxy="socks5://user:wr0ng@proxy")


def test_label_studio_is_reached_as_its_api_is(
    outer: ForwardProxy, plain: Server, secure: Server, open_images: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the environment's proxy, and over its redirect to https, with the token."""
    monkeypatch.setenv("HTTPS_PROXY", outer.url)
    monkeypatch.setenv("HTTP_PROXY", outer.url)
    plain.redirect("/data/upload/4/a.jpg", "https://labels.company.test/data/upload/4/a.jpg")
    secure.replies["/data/upload/4/a.jpg"] = Reply(body=IMAGE)
    label_studio = LabelStudioImages("http://labels.company.test", lambda: "token", open_images())
    assert label_studio.read("/data/upload/4/a.jpg") == IMAGE
    assert [asked.headers["Authorization"] for asked in (*plain.asked, *secure.asked)] == ["Token token"] * 2


def test_the_token_stays_with_label_studio_behind_a_proxy(
    outer: ForwardProxy, secure: Server, open_images: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", outer.url)
    secure.redirect("/data/upload/4/a.jpg", "https://x.blob.company.test/a.jpg")
    images = open_images("x.blob.company.test", proxy=outer.url)
    assert (
        LabelStudioImages("https://labels.company.test", lambda: "token", images).read("/data/upload/4/a.jpg") == IMAGE
    )
    assert [asked.headers.get("Authorization") for asked in secure.asked] == ["Token token", None]
