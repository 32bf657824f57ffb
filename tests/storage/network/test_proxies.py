"""Which proxy the environment names for an address."""

from __future__ import annotations

import pytest

from taxonomist.storage.network.proxies import is_reached_directly, parse_proxy, proxy_for
from taxonomist.taxonomy.errors import ConfigError

pytestmark = pytest.mark.usefixtures("no_network_variables")


def test_each_scheme_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https://labels.company.test/") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.company.test:3128")
    monkeypatch.setenv("http_proxy", "plain.company.test:8080")
    found = proxy_for("https://labels.company.test/")
    assert found is not None
    assert (found.host, found.port, found.variable) == ("proxy.company.test", 3128, "HTTPS_PROXY")
    assert found.url == "http://user:secret@proxy.company.test:3128"
    assert str(found) == "the proxy proxy.company.test:3128 (HTTPS_PROXY)"
    assert "secret" not in repr(found)
    found = proxy_for("http://labels.company.test/")
    assert found is not None
    assert (found.url, found.variable) == ("http://plain.company.test:8080", "http_proxy")


def test_all_proxy_is_the_last_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all.company.test:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://one.company.test:2")
    assert [found.port for url in ("http://a.test", "https://a.test") if (found := proxy_for(url))] == [1, 2]


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("labels.company.test", "http://labels.company.test", True),
        ("company.test", "http://labels.company.test", True),
        (".company.test", "http://labels.company.test", True),
        ("*.company.test", "http://labels.company.test", True),
        ("COMPANY.test", "http://Labels.Company.TEST.", True),
        ("a.test, company.test", "http://labels.company.test", True),
        ("a.test company.test", "http://labels.company.test", True),
        ("*", "http://labels.company.test", True),
        ("pany.test", "http://labels.company.test", False),
        ("labels", "http://labels.company.test", False),
        ("labels.company.test:8080", "http://labels.company.test:8080", True),
        ("labels.company.test:8080", "http://labels.company.test", False),
        ("labels.company.test:443", "https://labels.company.test", True),
        ("10.0.0.0/8", "http://10.1.2.3:8080", True),
        ("10.1.2.3", "http://10.1.2.3:8080", True),
        ("10.1.2.3:80", "http://10.1.2.3:8080", False),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.0.0.0/8", "http://labels.company.test", False),
        ("fd00::/8", "http://[fd00::1]:8080", True),
        ("[fd00::1]", "http://[fd00::1]:8080", True),
        ("", "http://labels.company.test", False),
        ("", "http://localhost:8080", True),
        ("", "http://127.0.0.9:8080", True),
        ("", "http://[::1]:8080", True),
        ("", "http://169.254.169.254/metadata/identity", True),
        ("", "http://labels.localhost", True),
        ("", "http://localhost.company.test", False),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.company.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is None) == direct


def test_the_lower_case_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "a.test")
    monkeypatch.setenv("no_proxy", "b.test")
    assert [is_reached_directly(host, 80) for host in ("a.test", "b.test")] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "socks5://user:secret@proxy:1080",
        "ftp://user:secret@proxy",
        "http://user:sec@ret@proxy:3128",
        "http://user:sec#ret@proxy:3128",
        "http://user:sec/ret@proxy:3128",
        "http://user:secret@:3128",
        "http://user:secret@proxy:99999",
        "http://user:secret@proxy:3128/path",
        "user:secret://proxy",
        "",
        "http://",
    ],
)
def test_what_is_no_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_proxy(text, "HTTPS_PROXY")
    assert "HTTPS_PROXY" in str(caught.value)
    assert not any(part in str(caught.value) for part in ("sec", "user"))
    assert ("SOCKS" in str(caught.value)) == text.startswith("socks")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("proxy", "proxy", 80),
        ("https://Proxy.Company.test/", "proxy.company.test", 443),
        ("HTTP://[fd00::1]:3128", "fd00::1", 3128),
        ("http://user:p%40ss:word@10.0.0.1:8080", "10.0.0.1", 8080),
    ],
)
def test_forms_of_a_proxy(text: str, host: str, port: int) -> None:
    found = parse_proxy(text, "HTTP_PROXY")
    assert (found.host, found.port) == (host, port)
    assert found.url.partition("://")[0] in {"http", "https"}
