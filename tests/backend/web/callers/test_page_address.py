"""Which requests through the address of the pages are refused, over real sockets, and that nobody is local there."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.callers.caller import Proxies
from tests.backend.web.callers.test_access import calls
from tests.backend.web.serving import serving

PAGES = "https://labels.example/taxonomist"
FORWARDED = {"X-Forwarded-For": "203.0.113.7"}
PROTOCOL = ["setup", "predict", "webhook", "train", "metrics", "versions"]
SPELLINGS = ["/{}", "//{}", "/%2F{}", "/./{}", "/x/../{}", "/x/..%2f{}", "/{}/", "/{}//", "/{}/.", "/{}?a=/health"]


def apart(services: Services, **settings: Any) -> Settings:
    return Settings(home=services.settings.home, **{"browser_url": PAGES, **settings})


def status(port: int, method: str, target: str, headers: Mapping[str, str]) -> int:
    """Return the status of a request whose target no client has tidied."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()] + ["Content-Length: 2", "", "{}"]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall("\r\n".join(lines).encode())
        return int(client.makefile("rb").readline().split()[1])


def spellings(name: str) -> list[str]:
    encoded = f"%{ord(name[0]):02x}{name[1:]}"
    twice = f"%25{ord(name[0]):02x}{name[1:]}"
    written = [name, encoded, encoded.upper(), twice, name.upper(), name.title(), f"{name}%00", f"{name};x"]
    return [spelling.format(form) for spelling in SPELLINGS for form in written]


def test_the_protocol_is_not_at_the_address_of_the_pages(services: Services) -> None:
    password = httpx.BasicAuth("taxonomist", services.credentials.password)
    authorization = next(password.auth_flow(httpx.Request("GET", "http://x"))).headers["Authorization"]
    known = {"Authorization": authorization}
    with serving(services, apart(services)) as port:
        for name in PROTOCOL:
            for path in spellings(name):
                assert status(port, "POST", path, FORWARDED | known) == 404, path
                assert status(port, "GET", f"/taxonomist{path}", known) == 404, path  # the proxy kept the path
            assert status(port, "POST", f"/{name}", FORWARDED) == 404  # before a password is asked for
        for path in ("/health", "/livez"):
            assert status(port, "GET", path, FORWARDED) == 200
        assert status(port, "GET", "/similar", FORWARDED) == 400
        # Label Studio, at the internal address
        assert {
            httpx.post(f"http://127.0.0.1:{port}{path}", json=body, auth=password).status_code
            for path, body in calls().items()
        } <= {200, 201}
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", auth=password).status_code == 200
    assert services.projects.exists("7")


@pytest.mark.parametrize("url", [None, "http://10.0.0.5:9090"])
def test_without_another_address_of_the_pages_a_proxy_may_forward_the_protocol(
    services: Services, url: str | None
) -> None:
    password = ("taxonomist", services.credentials.password)
    with serving(services, apart(services, browser_url=url, public_url=url)) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers=FORWARDED, auth=password).status_code == 200


@pytest.mark.parametrize(
    ("settings", "is_direct"),
    [
        ({}, True),
        ({"public_url": "http://localhost:9090"}, True),
        ({"public_url": "http://127.0.0.1:9090", "browser_url": "http://127.0.0.1:9090"}, True),
        ({"browser_url": PAGES}, False),
        ({"public_url": "https://host.example/taxonomist"}, False),
        ({"public_url": "http://10.0.0.5:9090"}, False),
    ],
)
def test_with_a_public_address_nobody_is_local(settings: dict[str, Any], is_direct: bool) -> None:
    caller = Proxies(Settings(**settings)).caller([("Host", "localhost")], "127.0.0.1")
    assert caller.is_direct == caller.is_local_program == is_direct
