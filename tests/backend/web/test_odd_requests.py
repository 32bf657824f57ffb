"""Requests that programs and pages can write, but Label Studio does not, over real sockets: none changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from taxonomist.backend.services import Services
from tests.backend.web.serving import serving
from tests.backend.web.test_front import connect, read
from tests.small_world import CONFIG

HOST, JSON = "Host: localhost", "Content-Type: application/json"
UPGRADE = ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]


@pytest.fixture
def port(services: Services) -> Iterator[int]:
    with serving(services, services.settings) as port:
        yield port


def status(port: int, target: str, *headers: str) -> int:
    """Return the status of the answer to /setup for project 7, 0 for a connection that is closed without one."""
    body = json.dumps({"project": "7.1795531934", "schema": CONFIG})
    lines = [target, *headers, f"Content-Length: {len(body)}", "Connection: close", "", body]
    with ExitStack() as stack:
        answer = read(connect(stack, port, "\r\n".join(lines).encode()))
    return int(answer.split(b" ")[1]) if answer else 0


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("POST http://evil.test/setup HTTP/1.1", [HOST, JSON]),
        ("POST http://evil.test/setup HTTP/1.1", ["Host: evil.test", JSON]),
        ("POST http://localhost:1/setup HTTP/1.1", [HOST, JSON]),
        ("POST http://user:password@localhost/setup HTTP/1.1", [HOST, JSON]),
        ("POST http://localhost/setup HTTP/1.0", [JSON]),
        ("POST //evil.test/setup HTTP/1.1", [HOST, JSON]),
        ("POST /setup HTTP/1.1", [HOST, HOST, JSON]),
        ("POST /setup HTTP/1.1", ["Host: localhost, evil.test", JSON]),
        ("POST /setup HTTP/1.1", ["Host: user@localhost", JSON]),
        ("POST /setup HTTP/1.1", ["Host: [::1].evil.test", JSON]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Origin: null"]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Origin: http://localhost", "Origin: null"]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Origin: capacitor://localhost"]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "SEC-FETCH-SITE: CROSS-SITE"]),
        ("POST /setup HTTP/1.1", [HOST, "Content-Type: text/plain"]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Content-Type: text/plain"]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Upgrade: websocket", *UPGRADE]),
        ("GET /setup HTTP/1.1", [HOST, JSON, "Upgrade: websocket", *UPGRADE]),
        ("POST /setup HTTP/1.1", [HOST, JSON, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"]),
        ("GET /setup HTTP/1.1", [HOST, JSON, "X-HTTP-Method-Override: POST"]),
        ("GET /setup?_method=POST HTTP/1.1", [HOST, JSON, "X-Method-Override: POST", "X-HTTP-Method: POST"]),
        *(
            (f"{method} /setup HTTP/1.1", [HOST, JSON])
            for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PROPFIND", "post")
        ),
        ("CONNECT evil.test:443 HTTP/1.1", [HOST, JSON]),
        ("OPTIONS * HTTP/1.1", [HOST, JSON]),
    ],
)
def test_it_changes_nothing(services: Services, port: int, target: str, headers: list[str]) -> None:
    answer = status(port, target, *headers)
    assert answer < 500
    assert answer >= 400 or target.startswith("OPTIONS")
    assert not services.projects.exists("7")


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("POST /setup HTTP/1.1", ["HOST: LOCALHOST.:1", "content-TYPE: Application/JSON; charset=x"]),
        ("POST http://localhost/setup HTTP/1.1", [HOST, JSON]),
        ("POST /setup HTTP/1.0", [JSON]),
    ],
)
def test_a_program_of_this_machine_may(services: Services, port: int, target: str, headers: list[str]) -> None:
    assert status(port, target, *headers) == 200
    assert services.projects.exists("7")
