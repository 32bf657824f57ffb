"""Proxies and redirects of `http_client`, with real servers behind a real proxy."""

from __future__ import annotations

import logging

import httpx
import pytest

from taxonomist.storage.network.http_clients import ProxyFailure, RedirectedElsewhere, http_client, reason_and_fix
from tests.network import Authority, ForwardProxy, Reply, Server

BASE = "http://labels.company.test"
SECURE = "https://labels.company.test"


@pytest.fixture
def company(
    forward_proxy: ForwardProxy, plain: Server, secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> ForwardProxy:
    """labels.company.test behind the proxy: `plain` on port 80, `secure` on port 443."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HTTP_PROXY", forward_proxy.url)
    monkeypatch.setenv("HTTPS_PROXY", forward_proxy.url)
    forward_proxy.hosts = {"labels.company.test:80": plain.port, "labels.company.test:443": secure.port}
    return forward_proxy


def test_http_and_https_go_through_the_proxy(company: ForwardProxy, plain: Server, secure: Server) -> None:
    plain.replies["/api"] = secure.replies["/api"] = Reply()
    with http_client(timeout=5) as client:
        assert client.get(f"{BASE}/api").is_success
        assert client.post(f"{SECURE}/api", content=b"sent").is_success
    assert company.passed == [f"GET {BASE}/api", "CONNECT labels.company.test:443"]
    assert secure.asked[0].body == b"sent"


def test_no_proxy_and_loopback_are_reached_directly(
    company: ForwardProxy, plain: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.replies["/"] = Reply()
    with http_client(timeout=5) as client:
        assert client.get(plain.url).is_success
        assert client.get(plain.url.replace("127.0.0.1", "localhost")).is_success
        monkeypatch.setenv("NO_PROXY", "company.test")
        with pytest.raises(httpx.ConnectError):  # there is no such name in the real world
            client.get(f"{BASE}/api")
    assert company.passed == []


def test_a_proxy_with_a_password(
    company: ForwardProxy, secure: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    company.login = "user:p@ss"
    secure.replies["/api"] = Reply()
    with http_client(timeout=5) as client:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{company.port}")
        assert client.get(f"{SECURE}/api").is_success
        for url, password in ((f"{SECURE}/api", "HTTPS_PROXY"), (f"{BASE}/api", "HTTP_PROXY")):
            monkeypatch.setenv(password, f"http://user:wr0ng@127.0.0.1:{company.port}")
            with pytest.raises(ProxyFailure, match=rf"407 .* through the proxy 127.0.0.1:{company.port}") as caught:
                client.get(url)
            assert "wr0ng" not in f"{caught.value!r} {reason_and_fix(caught.value)}"
            assert password in str(reason_and_fix(caught.value)[1])
    assert not any(word in caplog.text for word in ("wr0ng", "p%40ss", "p@ss"))


def test_a_proxy_that_is_away_or_does_not_know_the_host(company: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    company.hosts = {}
    with http_client(timeout=5) as client:
        with pytest.raises(ProxyFailure, match="502"):
            client.get(f"{SECURE}/api")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        with pytest.raises(ProxyFailure) as caught:
            client.get(f"{SECURE}/api")
    reason, fix = reason_and_fix(caught.value)
    assert "through the proxy 127.0.0.1:1 (HTTPS_PROXY)" in reason
    assert fix == "Correct HTTPS_PROXY, or add labels.company.test to NO_PROXY if it needs no proxy."


def test_a_certificate_that_is_not_trusted_is_no_fault_of_the_proxy(
    company: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with http_client(timeout=5) as client, pytest.raises(httpx.ConnectError) as caught:
        client.get(f"{SECURE}/api")
    assert "SSL_CERT_FILE" in str(reason_and_fix(caught.value)[1])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_a_redirect_keeps_the_method(plain: Server, status: int, method: str) -> None:
    plain.redirect("/api", f"{plain.url}/api/", status)
    plain.replies["/api/"] = Reply(body=b'{"is": "there"}')
    with http_client(plain.url, timeout=5, headers={"Authorization": "Token t"}) as client:
        answer = client.request(method, "/api", content=b"sent" if method != "GET" else None)
    assert answer.json() == {"is": "there"}
    assert plain.methods == [method, method]
    assert plain.asked[1].headers["Authorization"] == "Token t"
    assert plain.asked[1].body == (b"sent" if method != "GET" else b"")


@pytest.mark.parametrize("status", [301, 302, 308])
def test_from_http_to_https_method_body_and_token_are_kept(
    company: ForwardProxy, plain: Server, secure: Server, status: int
) -> None:
    plain.redirect("/api", f"{SECURE}/api", status)
    secure.replies["/api"] = Reply()
    with http_client(BASE, timeout=5, headers={"Authorization": "Token t"}) as client:
        assert client.post("/api", json={"title": "chairs"}).is_success
    assert [(asked.method, asked.headers["Authorization"]) for asked in secure.asked] == [("POST", "Token t")]
    assert secure.asked[0].body == plain.asked[0].body == b'{"title":"chairs"}'


@pytest.mark.parametrize(
    ("location", "base"),
    [
        ("https://labels.company.test:8443/labels/api/version", "https://labels.company.test:8443/labels"),
        ("https://new.company.test/api/version", "https://new.company.test"),
        ("https://sso.company.test/login?next=secret", "https://sso.company.test"),
        ("//new.company.test/labels/api/version", "http://new.company.test/labels"),
        ("http://[fd00::1]:80/labels/api/version", "http://[fd00::1]/labels"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_to_another_server_says_what_to_set(
    company: ForwardProxy, plain: Server, location: str, base: str, method: str
) -> None:
    """The body of a POST may have a password, and the other server may belong to anyone."""
    plain.redirect("/labels/api/version", location)
    with http_client(f"{BASE}/labels", timeout=5) as client, pytest.raises(RedirectedElsewhere) as caught:
        client.request(method, f"{BASE}/labels/api/version")
    assert caught.value.base == base
    assert base in str(reason_and_fix(caught.value)[1])
    assert f"{BASE} redirects {method} to " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert company.passed == [f"{method} {BASE}/labels/api/version"]


@pytest.mark.parametrize(
    "target",
    ["/api/token/refresh/", "/labels", "/labelsx/api/", "/labels/../api/", "/labels/%2e%2e/api/", "/labels\\..\\api"],
)
def test_a_redirect_that_leaves_the_path_is_not_followed(plain: Server, target: str) -> None:
    """Other programs at the same host must not get the token."""
    plain.redirect("/labels/api/token/refresh/", target)
    plain.replies[target] = Reply()
    with http_client(f"{plain.url}/labels", timeout=5) as client, pytest.raises(RedirectedElsewhere):
        client.post("/api/token/refresh/", json={"refresh": "secret"})
    assert len(plain.asked) == 1


def test_a_post_never_becomes_a_get(plain: Server) -> None:
    plain.redirect("/api", "/page", 303)
    plain.replies["/page"] = Reply()
    with http_client(plain.url, timeout=5) as client:
        assert client.get("/api").is_success
        with pytest.raises(RedirectedElsewhere, match="redirects POST"):
            client.post("/api")
    assert plain.methods == ["GET", "GET", "POST"]


def test_https_is_never_left(company: ForwardProxy, plain: Server, secure: Server) -> None:
    secure.redirect("/api", f"{BASE}/api/")
    with http_client(SECURE, timeout=5) as client, pytest.raises(RedirectedElsewhere) as caught:
        client.get("/api")
    assert "X-Forwarded-Proto" in str(reason_and_fix(caught.value)[1])
    assert plain.asked == []


def test_redirects_in_a_circle_end(plain: Server) -> None:
    plain.redirect("/api", "/api")
    with http_client(plain.url, timeout=5) as client, pytest.raises(httpx.TooManyRedirects):
        client.post("/api")


def test_a_download_follows_as_a_browser_does(company: ForwardProxy, plain: Server, secure: Server) -> None:
    plain.redirect("/file", "https://labels.company.test/other", 302)
    secure.replies["/other"] = Reply()
    with http_client(timeout=5, stay=False) as client:
        assert client.post(f"{BASE}/file").is_success
    assert (plain.methods, secure.methods) == (["POST"], ["GET"])
