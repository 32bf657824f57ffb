"""The client of Label Studio with a company's certificate, a proxy and redirects, by real sockets."""

from __future__ import annotations

import json

import pytest

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from tests.network import Authority, ForwardProxy, Reply, Server
from tests.storage.images.test_label_studio import PERSONAL, jwt

VERSION = Reply(body=b'{"release": "1.23.2"}')


def version(url: str) -> str:
    with LabelStudioClient(url, "token", timeout_s=5) as client:
        return client.version()


@pytest.fixture
def company(
    forward_proxy: ForwardProxy, plain: Server, secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> ForwardProxy:
    """labels.company.test behind the proxy of the environment: `plain` on port 80, `secure` on port 443."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HTTP_PROXY", forward_proxy.url)
    monkeypatch.setenv("HTTPS_PROXY", forward_proxy.url)
    forward_proxy.hosts = {"labels.company.test:80": plain.port, "labels.company.test:443": secure.port}
    return forward_proxy


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_companys_certificate(
    secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    secure.replies["/api/version"] = VERSION
    with pytest.raises(LabelStudioError, match=r"certificate is not trusted.*Set SSL_CERT_FILE"):
        version(secure.url)
    monkeypatch.setenv(variable, str(authority.file))
    assert version(secure.url) == "1.23.2"
    monkeypatch.setenv(variable, "/gone/company.pem")
    with pytest.raises(ConfigError, match=f"{variable} names /gone/company.pem, which cannot be read"):
        version(secure.url)


def test_a_personal_token_is_exchanged_through_proxy_and_certificate(company: ForwardProxy, secure: Server) -> None:
    access = jwt(exp=9_999_999_999)
    secure.replies["/api/token/refresh/"] = Reply(body=json.dumps({"access": access}).encode())
    assert TokenAuth("https://labels.company.test", lambda: PERSONAL).header() == {"Authorization": f"Bearer {access}"}
    assert company.passed == ["CONNECT labels.company.test:443"]


def test_a_personal_token_is_not_sent_to_another_server(company: ForwardProxy, plain: Server, secure: Server) -> None:
    plain.redirect("/api/token/refresh/", "https://other.company.test/api/token/refresh/", 308)
    with pytest.raises(LabelStudioError, match=r"Set its address to https://other.company.test"):
        TokenAuth("http://labels.company.test", lambda: PERSONAL).header()
    assert len(company.passed) == 1


@pytest.mark.parametrize("status", [301, 302, 308])
def test_writing_through_a_redirect_from_http_to_https(
    company: ForwardProxy, plain: Server, secure: Server, status: int
) -> None:
    """Before, the SDK's PATCH and POST became a GET, whose answer looked like success."""
    plain.redirect("/api/projects/4/", "https://labels.company.test/api/projects/4/", status)
    plain.redirect("/api/webhooks/", "https://labels.company.test/api/webhooks/", status)
    secure.replies["/api/projects/4/"] = Reply(body=b'{"id": 4}')
    hook = {"id": 7, "url": "http://us.test/webhook", "headers": {}, "is_active": True, "send_payload": True}
    secure.replies["/api/webhooks/"] = Reply(body=json.dumps({**hook, "send_for_all_actions": True}).encode())
    with LabelStudioClient("http://labels.company.test", "token", timeout_s=5) as client:
        client.update_project("4", show_collab_predictions=True)
        client.create_webhook("4", "http://us.test/webhook", {"X-Secret": "s"})
    assert [(asked.method, asked.path.partition("?")[0]) for asked in secure.asked] == [
        ("PATCH", "/api/projects/4/"),
        ("POST", "/api/webhooks/"),
    ]
    assert all(asked.headers["Authorization"] == "Token token" for asked in secure.asked)
    assert [asked.body for asked in secure.asked] == [asked.body for asked in plain.asked]


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("https://labels.company.test:8443/api/version", "https://labels.company.test:8443"),
        ("https://new.company.test/labels/api/version", "https://new.company.test/labels"),
    ],
)
def test_a_redirect_that_is_not_followed_says_what_to_set(
    company: ForwardProxy, plain: Server, location: str, address: str
) -> None:
    plain.redirect("/api/version", location)
    with pytest.raises(LabelStudioError) as caught:
        version("http://labels.company.test")
    assert f"--url {address}" in str(caught.value)
    assert f"TAXONOMIST_LABEL_STUDIO_URL={address}" in str(caught.value)
    assert len(company.passed) == 1


def test_a_proxy_that_is_away_is_named(company: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(LabelStudioError, match=r"through the proxy 127.0.0.1:1 \(HTTPS_PROXY\).*NO_PROXY") as caught:
        version("https://labels.company.test")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[labels", "http://labels:port", "labels:8080"])
def test_an_address_that_is_none(no_network_variables: None, url: str) -> None:
    with pytest.raises(LabelStudioError):
        version(url)
