import base64
import json
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, quote

import pytest

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.storage.images.loading import loading
from taxonomist.storage.network import proxies
from taxonomist.storage.network.host_breaker import HOSTS
from taxonomist.taxonomy.errors import (
    AuthError,
    ConfigError,
    ImageForbiddenError,
    ImageNotFoundError,
    ImageUnavailableError,
    LabelStudioError,
)
from tests.storage.conftest import Handler, Web

IMAGE = b"\xff\xd8 an image"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: object) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part(claims)}.c2ln"


PERSONAL = jwt(token_type="refresh", exp=9_999_999_999)


class LabelStudio:
    """Handles tokens as Label Studio does: 401 without one; access tokens are valid for 300 seconds."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.life_s = 300.0
        self.clock_ahead_s = 0.0
        self.exchanges = 0
        self.accepted = {f"Token {LEGACY}"}
        web.routes["/data/upload/4/a.jpg"] = self.image
        web.routes["/data/local-files/"] = self.image
        web.routes["/tasks/7/resolve/"] = self.image
        web.routes["/api/token/refresh/"] = self.refresh

    def image(self, handler: Handler) -> None:
        if handler.headers.get("Authorization") in self.accepted:
            handler.reply(200, IMAGE)
        else:
            handler.reply(401, b'{"detail": "Authentication credentials were not provided."}')

    def refresh(self, handler: Handler) -> None:
        if json.loads(handler.body) != {"refresh": PERSONAL}:
            handler.reply(401, b'{"detail": "Token is invalid"}')
            return
        self.exchanges += 1
        now = time.time() + self.clock_ahead_s
        access = jwt(token_type="access", iat=int(now), exp=int(now + self.life_s), number=self.exchanges)
        self.accepted = {f"Bearer {access}"}
        handler.reply(200, json.dumps({"access": access}).encode())


@pytest.fixture
def label_studio(web: Web) -> LabelStudio:
    return LabelStudio(web)


@pytest.fixture
def http() -> Iterator[HttpImages]:
    with HttpImages([], 10_000, 5.0) as http:
        yield http


@pytest.mark.parametrize(
    "uri",
    [
        "/data/upload/4/a.jpg",
        "/data/local-files/?d=x/a.jpg",
        "/tasks/7/resolve/?fileuri=czM6Ly8",
        "{url}/data/upload/4/a.jpg",
    ],
)
@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_each_form_with_each_kind_of_token(label_studio: LabelStudio, http: HttpImages, uri: str, token: str) -> None:
    images = LabelStudioImages(label_studio.web.url + "/", lambda: token, http)
    uri = uri.format(url=label_studio.web.url)
    assert images.owns(uri)
    assert images.read(uri) == IMAGE
    assert images.read(uri) == IMAGE
    assert label_studio.exchanges == (1 if token is PERSONAL else 0)


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_the_clock_of_label_studio_may_be_another(label_studio: LabelStudio, http: HttpImages, ahead: float) -> None:
    label_studio.clock_ahead_s, label_studio.life_s = ahead, 300.0
    images = LabelStudioImages(label_studio.web.url, lambda: PERSONAL, http)
    for _ in range(3):
        assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert label_studio.exchanges == 1
    label_studio.life_s = 20.0  # less than what it is renewed before its end
    images = LabelStudioImages(label_studio.web.url, lambda: PERSONAL, http)
    for _ in range(3):
        assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert label_studio.exchanges == 4


@pytest.mark.parametrize("site", ["", "{url}"])
def test_local_files_with_any_name(label_studio: LabelStudio, http: HttpImages, site: str) -> None:
    """A name may be written as it is; the request has it as Label Studio itself would write it."""
    images = LabelStudioImages(label_studio.web.url, lambda: LEGACY, http)
    names = ["chair#1.jpg", "chair?2.jpg", "a&b.jpg", "100%.jpg", "x y/ä.jpg"]
    for name in names:
        for written in (name, quote(name)):
            assert images.read(f"{site.format(url=label_studio.web.url)}/data/local-files/?d={written}") == IMAGE
    asked = [parse_qs(path.partition("?")[2])["d"] for path, _ in label_studio.web.requests]
    assert asked == [[name] for name in names for _ in range(2)]


def test_an_access_token_is_exchanged_again_shortly_before_its_end(label_studio: LabelStudio) -> None:
    label_studio.life_s = 20.0
    auth = TokenAuth(label_studio.web.url, lambda: PERSONAL)
    assert auth.header() != auth.header()
    label_studio.life_s = 300.0
    assert auth.header() == auth.header()
    assert label_studio.exchanges == 3


def test_an_access_token_that_is_refused_is_exchanged_once(label_studio: LabelStudio, http: HttpImages) -> None:
    images = LabelStudioImages(label_studio.web.url, lambda: PERSONAL, http)
    assert images.read("/data/upload/4/a.jpg") == IMAGE
    label_studio.accepted = set()  # Label Studio was restarted with another secret
    assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert label_studio.exchanges == 2
    label_studio.web.route("/data/upload/4/a.jpg", 401)
    with pytest.raises(ImageForbiddenError):
        images.read("/data/upload/4/a.jpg")
    assert label_studio.exchanges == 3


def test_a_changed_token_is_taken_up(label_studio: LabelStudio) -> None:
    tokens = iter([LEGACY, PERSONAL, "", "other.jwt.token"])
    auth = TokenAuth(label_studio.web.url, lambda: next(tokens))
    assert auth.header() == {"Authorization": f"Token {LEGACY}"}
    assert auth.header()["Authorization"].startswith("Bearer ")
    assert auth.header() == {}
    with pytest.raises(AuthError, match="TAXONOMIST_LABEL_STUDIO_API_KEY"):
        auth.header()


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}"])
def test_an_exchange_that_is_no_label_studio(web: Web, answer: bytes) -> None:
    web.route("/api/token/refresh/", data=answer)
    with pytest.raises(LabelStudioError, match="TAXONOMIST_LABEL_STUDIO_URL"):
        TokenAuth(web.url, lambda: PERSONAL).header()


def test_faults_of_the_exchange_are_errors_of_the_image(web: Web, http: HttpImages) -> None:
    with pytest.raises(ImageUnavailableError, match="TAXONOMIST_LABEL_STUDIO_URL"):
        LabelStudioImages(web.url, lambda: PERSONAL, http).read("/data/upload/4/a.jpg")
    web.route("/api/token/refresh/", 401)
    with pytest.raises(ImageForbiddenError, match="TAXONOMIST_LABEL_STUDIO_API_KEY"):
        LabelStudioImages(web.url, lambda: PERSONAL, http).read("/data/upload/4/a.jpg")


@pytest.mark.parametrize(
    ("status", "error"), [(404, ImageNotFoundError), (403, ImageForbiddenError), (502, ImageUnavailableError)]
)
def test_what_label_studio_answers(web: Web, http: HttpImages, status: int, error: type[Exception]) -> None:
    web.route("/data/local-files/", status)
    with pytest.raises(error):
        LabelStudioImages(web.url, lambda: LEGACY, http).read("/data/local-files/?d=a.jpg")


def test_the_page_to_log_in_is_no_image(web: Web, http: HttpImages) -> None:
    web.route("/data/upload/4/a.jpg", 302, headers={"Location": "/user/login/?next=/data"})
    web.route("/user/login/", data=b"<html>log in</html>")
    with pytest.raises(ImageForbiddenError, match="TAXONOMIST_LABEL_STUDIO_API_KEY"):
        LabelStudioImages(web.url, lambda: "", http).read("/data/upload/4/a.jpg")


@pytest.mark.parametrize("kind", ["port", "name"])
def test_the_token_goes_to_label_studio_only(
    label_studio: LabelStudio, start_web: Callable[[], Web], kind: str
) -> None:
    """Cloud storage behind Label Studio: it redirects to a signed address on another host."""
    other = start_web()
    other.route("/signed.jpg", data=IMAGE)
    place = other.host if kind == "port" else f"localhost:{other.port}"
    label_studio.web.route("/tasks/7/resolve/", 302, headers={"Location": f"http://{place}/signed.jpg"})
    with HttpImages([place], 10_000, 5.0) as allowed, HttpImages([], 10_000, 5.0) as nothing_allowed:
        images = LabelStudioImages(label_studio.web.url, lambda: LEGACY, nothing_allowed)
        with pytest.raises(ImageForbiddenError, match="TAXONOMIST_ALLOWED_IMAGE_HOSTS"):
            images.read("/tasks/7/resolve/?fileuri=czM6Ly8")
        assert other.requests == []
        images = LabelStudioImages(label_studio.web.url, lambda: LEGACY, allowed)
        assert images.read("/tasks/7/resolve/?fileuri=czM6Ly8") == IMAGE
    assert "Authorization" not in other.requests[0][1]


@pytest.mark.parametrize(
    "uri",
    [
        "/data/local-files/?d=../../etc/passwd",
        "/data/local-files/?d=a/%2e%2e/%2e%2e/etc/passwd",
        "/data/local-files/?d=a\\..\\..\\b",
        "/data/upload/../../api/users",
        "/data/upload/%2e%2e/%2e%2e/api/users",
        "{url}/data/upload/../../api/users",
    ],
)
def test_paths_that_lead_out_are_not_requested(label_studio: LabelStudio, http: HttpImages, uri: str) -> None:
    with pytest.raises(ImageForbiddenError, match=r'by "\.\."'):
        LabelStudioImages(label_studio.web.url, lambda: LEGACY, http).read(uri.format(url=label_studio.web.url))
    assert label_studio.web.requests == []


@pytest.mark.parametrize(
    "uri", ["http://other/data/upload/4/a.jpg", "file:///data/upload/4/a.jpg", "/srv/a.jpg", "a.jpg"]
)
def test_what_is_not_label_studios(label_studio: LabelStudio, http: HttpImages, uri: str) -> None:
    assert not LabelStudioImages(label_studio.web.url, lambda: LEGACY, http).owns(uri)
    assert not parse_address(uri).is_on_label_studio


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://user:pass@host"])
def test_an_address_that_is_no_label_studio(http: HttpImages, url: str) -> None:
    with pytest.raises(ConfigError):
        LabelStudioImages(url, lambda: LEGACY, http)


# --- a token that was revoked, and a new one in the environment


@pytest.mark.parametrize(("first", "second"), [("revoked", LEGACY), (jwt(number=1), LEGACY), ("revoked", PERSONAL)])
def test_a_refused_token_falls_back_to_the_other(
    label_studio: LabelStudio, http: HttpImages, caplog: pytest.LogCaptureFixture, first: str, second: str
) -> None:
    images = LabelStudioImages(label_studio.web.url, lambda: first, http, fallback=second)
    assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert caplog.text.count("refuses a token") == 1  # the other one is kept
    assert first not in caplog.text
    assert second not in caplog.text


def test_a_token_that_is_valid_is_used_before_the_other(label_studio: LabelStudio, http: HttpImages) -> None:
    images = LabelStudioImages(label_studio.web.url, lambda: LEGACY, http, fallback="other")
    assert images.read("/data/upload/4/a.jpg") == IMAGE
    assert len(label_studio.web.requests) == 1


def test_two_tokens_that_are_refused_are_an_error(label_studio: LabelStudio, http: HttpImages) -> None:
    images = LabelStudioImages(label_studio.web.url, lambda: "one", http, fallback="two")
    for _ in range(2):
        with pytest.raises(ImageForbiddenError):
            images.read("/data/upload/4/a.jpg")
    label_studio.accepted = {"Token one"}  # it was set up again
    assert images.read("/data/upload/4/a.jpg") == IMAGE


def test_several_threads_change_the_token_once(label_studio: LabelStudio) -> None:
    auth = TokenAuth(label_studio.web.url, lambda: "revoked", fallback=LEGACY)
    refused = auth.header()["Authorization"]
    for _ in range(3):  # each was refused while the others were under way
        assert auth.header(renew=True, refused=refused) == {"Authorization": f"Token {LEGACY}"}


def test_what_says_nothing_about_the_host_leaves_it_available(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is an answer; a wrong setting of ours ends the one try after a pause without a result."""
    auth = TokenAuth(web.url, lambda: PERSONAL)
    web.route("/api/token/refresh/", 302, headers={"Location": "https://elsewhere.example/api/token/refresh/"})
    for _ in range(6):
        with pytest.raises(LabelStudioError):
            auth.header()
    assert HOSTS.unavailable() == []
    monkeypatch.setattr(HOSTS, "_first_pause_s", 0.0001)
    for _ in range(4):
        HOSTS.failed(web.host, "it refuses connections")
    with monkeypatch.context() as patch, loading(time.monotonic() + 60):
        patch.setenv("HTTP_PROXY", "socks://u:p@proxy:1")
        patch.setattr(proxies, "is_reached_directly", lambda *_: False)
        with pytest.raises(ConfigError):
            auth.header()
    web.route("/api/token/refresh/", data=json.dumps({"access": jwt(exp=time.time() + 300)}).encode())
    with loading(time.monotonic() + 60):
        assert auth.header()["Authorization"].startswith("Bearer ")
