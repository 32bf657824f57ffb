"""What a page of another site can send, and what Label Studio and our own pages send."""

from __future__ import annotations

import pytest

from taxonomist.backend.settings import Settings
from taxonomist.backend.web.callers.gate import Gate

JSON = {"content-type": "application/json"}
PUBLIC = {"public_url": "http://taxonomist:9090", "browser_url": "https://Label.company.test/taxonomist"}


def refusal(method: str, path: str, headers: dict[str, str], **settings: object) -> int | None:
    gate = Gate(Settings(**{**PUBLIC, **settings}))  # type: ignore[arg-type]
    refused = gate.refusal(method, path, [(name.encode(), value.encode("latin-1")) for name, value in headers.items()])
    return refused[0] if refused else None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": "http://localhost:8080"},  # Label Studio's page: the same site, another origin
        {"origin": "http://127.0.0.1:9091"},
        {"origin": "https://label.company.test.evil.test"},
        {"origin": "https://label.company.test:8443"},
        {"origin": "file://"},
        {"origin": "http://["},
        {"origin": "x"},
        {"origin": "capacitor://127.0.0.1:9090"},
        {"origin": "127.0.0.1:9090"},
        {"origin": "null, http://127.0.0.1:9090"},
        {"sec-fetch-site": "Cross-Site"},
        {"sec-fetch-site": "same-origin, cross-site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "odd"},
    ],
)
@pytest.mark.parametrize("path", ["/webhook", "/setup", "/predict", "/train", "/taxonomist/webhook"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_page_of_another_origin_changes_nothing(method: str, path: str, headers: dict[str, str]) -> None:
    assert refusal(method, path, {"host": "127.0.0.1:9090", **JSON, **headers}) == 403


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application/jsonp",
        "text/plain; application/json",
        "application/json, text/plain",
        "application/json-patch+json",
        "json",
        "*/*",
    ],
)
def test_a_form_changes_nothing(kind: str) -> None:
    assert refusal("POST", "/webhook", {"host": "127.0.0.1:9090", "content-type": kind}) == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("host", ["127.0.0.1:9090", "localhost:9090", "[::1]:9090", "10.1.2.3", "taxonomist:9090", ""])
def test_label_studio_may(kind: str, host: str) -> None:
    assert refusal("POST", "/webhook", {"host": host, "content-type": kind}) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("label.company.test", "https://label.company.test"),
        ("taxonomist:9090", "https://label.company.test"),  # a proxy that gives us its own name
        ("localhost:9090", "http://localhost:9090"),
    ],
)
def test_our_own_pages_may(host: str, origin: str) -> None:
    assert refusal("POST", "/train", {"host": host, "origin": origin, "sec-fetch-site": "same-origin", **JSON}) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:9090",
        "localhost.evil.test",
        "127.0.0.1.nip.test",
        "[::1",
        "a b",
        "a@localhost",
        "localhost/a",
        "localhost, evil.test",
        "localhost:9090@evil.test",
        "127.1",
        "0x7f.0.0.1",
        "localhost..",
        "[::1].evil.test",
    ],
)
@pytest.mark.parametrize("path", ["/similar", "/thumbnail", "/metrics", "/webhook", "/predict"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_is_not_ours_is_refused(host: str, path: str, method: str) -> None:
    assert refusal(method, path, {"host": host, **JSON}) == 403


@pytest.mark.parametrize("path", ["/", "/health", "/livez", "/readyz", "/taxonomist/health"])
def test_health_is_told_to_everybody(path: str) -> None:
    assert refusal("GET", path, {"host": "probe.test"}) is None


@pytest.mark.parametrize(
    ("host", "expected"), [("a.b.test", None), ("b.test", 403), ("c.test:1", None), ("d.test", 403)]
)
def test_further_names_are_a_setting(host: str, expected: int | None) -> None:
    assert refusal("GET", "/similar", {"host": host}, allowed_hosts="*.B.test, C.test") == expected


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("xn--bcher-kva.test", "https://xn--bcher-kva.test"),  # as browsers write it
        ("XN--BCHER-KVA.test.:443", "https://xn--bcher-kva.test"),
        ("sub.xn--mller-kva.test", "https://sub.xn--mller-kva.test"),
        ("other.xn--strae-oqa.test.", "http://other.xn--strae-oqa.test."),
    ],
)
def test_international_names_are_ours(host: str, origin: str) -> None:
    ours = {"public_url": "https://Bücher.test:443", "browser_url": "https://bücher.test/path"}
    given = {**ours, "allowed_hosts": "sub.Müller.test, *.straße.test"}
    headers = {"host": host, "origin": origin, **JSON}
    assert refusal("POST", "/train", headers, **given) is None
    assert refusal("POST", "/train", {**headers, "host": "xn--bcher-kvb.test"}, **given) == 403


@pytest.mark.parametrize("name", ["host", "origin", "authorization", "content-type", "x-taxonomist-secret"])
def test_a_header_that_must_come_once_is_refused_twice(name: str) -> None:
    values = {"host": "localhost", "content-type": "application/json"}
    headers = [(key.encode(), value.encode()) for key, value in values.items()]
    headers += [(name.encode(), b"a"), (name.encode(), b"a")]
    refused = Gate(Settings()).refusal("POST", "/webhook", headers)
    assert refused is not None
    assert refused[0] == 400
    assert f"more than one header {name.title()}" in refused[1]


FORM = {"host": "127.0.0.1:9090", "content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("headers", "takes_forms", "status"),
    [
        ({"origin": "http://127.0.0.1:9090"}, True, None),
        ({"sec-fetch-site": "same-origin"}, True, None),
        ({"origin": "https://label.company.test", "sec-fetch-site": "same-origin"}, True, None),
        ({"origin": "http://127.0.0.1:9090"}, False, 415),  # a route that programs call
        ({}, True, 403),  # nothing says that the form is ours
        ({"sec-fetch-site": "none"}, True, 403),
        ({"origin": "null"}, True, 403),
        ({"origin": "https://evil.test"}, True, 403),
        ({"sec-fetch-site": "cross-site"}, True, 403),
        ({"origin": "http://127.0.0.1:9090", "content-type": "multipart/form-data"}, True, 415),
        ({"origin": "http://127.0.0.1:9090", "content-type": "text/plain"}, True, 415),
    ],
)
def test_a_form_says_that_a_page_of_ours_sends_it(
    headers: dict[str, str], takes_forms: bool, status: int | None
) -> None:
    sent = [(name.encode(), value.encode()) for name, value in {**FORM, **headers}.items()]
    refused = Gate(Settings(**PUBLIC)).refusal("POST", "/login", sent, takes_forms=takes_forms)  # type: ignore[arg-type]
    assert (refused[0] if refused else None) == status
