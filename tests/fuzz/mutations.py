"""Changes of a recorded request: values of its JSON, its bytes, its headers and its address."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

LONG = "9" * 5000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**63, -(2**64), int(LONG[:4000]), 1e308, float("nan"), float("inf")),
    *("", " ", "²", "١٢", "-1", "0x10", "1e400", LONG, "\x00", "a\x00b", "\ud800", "\u202e\u2066", "é" * 300),
    *("../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/", "http://[::1]:1/", "http://169.254.169.254/"),
    *("=cmd()", "<script>alert(1)</script>", "'; DROP TABLE events; --", "%00", "{project}", "x" * 100_000),
    *("2026-11-24T14:54:47.261162Z", "2026-13-45", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"),
    *([], {}, [[]], [None], {"": None}, {"\x00": 1}, [[["a"]]], {"taxonomy": [["a"]]}, ["a"] * 2000),
    *("<View/>", "<View><Taxonomy name='t' toName='i'/></View>", "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>"),
    "<View>" * 2000 + "</View>" * 2000,
)
HEADERS: tuple[tuple[str, str], ...] = (
    *(("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=utf-16"), ("Content-Type", "")),
    *(("Authorization", "Basic !!!"), ("Authorization", "Basic " + "QQ==" * 1000), ("Authorization", "Bearer x")),
    *(("X-Taxonomist-Secret", "²" * 10), ("Origin", "http://example.com"), ("Origin", "null"), ("Cookie", "a=" * 99)),
    *(("X-Forwarded-For", "1.2.3.4, ²"), ("X-Forwarded-Prefix", "/a"), ("Content-Encoding", "gzip"), ("Range", "x")),
    *(("Host", "example.com"), ("Accept", "\x7f"), ("Expect", "100-continue"), ("If-None-Match", "*")),
)
PATHS = ("/health", "/setup", "/predict", "/webhook", "/train", "/versions", "/livez", "/readyz", "/metrics", "/", "//")
PAGES = ("/similar/{0}/{0}", "/similar/1/2?key={0}", "/thumbnail/{0}", "/{0}", "/health/{0}", "/health?{0}={0}")
WORDS = ("%00", "%2e%2e%2f", "%C3%28", "1", "²", "a" * 3000, "%FF", "..", "7", "%0d%0aSet-Cookie:%20a=b")
MOST_BYTES = 32 * 1024 * 1024  # of more than 64 MB, the server closes the connection while they are still sent
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")


@dataclass
class Request:
    """A request to send."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def mutated(recorded: dict[str, Any], chance: random.Random) -> Request:
    """Return a recorded request with a few changes; one in ten has none."""
    request = Request(recorded["method"], recorded["path"], headers={"Content-Type": "application/json"})
    body = copy.deepcopy(recorded["body"])
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5, 8, 13))):
        with suppress(RecursionError):  # it was nested several times
            body = _change_value(body, chance)
    if recorded["method"] == "POST":
        request.body = _as_json(body)
    if chance.random() < 0.2:
        request.body = _change_bytes(request.body, chance)
    request.body = request.body[:MOST_BYTES]
    if chance.random() < 0.15:
        name, value = chance.choice(HEADERS)
        request.headers[name] = value.encode("utf-8").decode("latin-1")
    if chance.random() < 0.1:
        request.path = chance.choice(PATHS)
    if chance.random() < 0.05:
        request.path = chance.choice(PAGES).format(chance.choice(WORDS)).encode("utf-8").decode("latin-1")
    if chance.random() < 0.05:
        request.method = chance.choice(METHODS)
    return request


def _as_json(body: Any) -> bytes:
    try:
        return json.dumps(body).encode()
    except (ValueError, RecursionError):
        return b"{}"


def _change_value(body: Any, chance: random.Random) -> Any:
    """Return the body with one node replaced, removed, repeated or nested."""
    places = list(_places(body))
    if not places:
        return copy.deepcopy(chance.choice(VALUES))
    holder, key = chance.choice(places)
    action: Callable[[], None] = chance.choice(
        (
            lambda: _put(holder, key, copy.deepcopy(chance.choice(VALUES))),
            lambda: _put(holder, key, copy.deepcopy(chance.choice(VALUES))),
            lambda: _put(holder, key, copy.deepcopy(chance.choice(places)[0])),
            lambda: _put(holder, key, [holder[key]] * 3),
            lambda: _put(holder, key, str(holder[key])),
            lambda: _put(holder, key, _nested(holder[key], chance.choice((5, 50, 150)))),
            lambda: holder.pop(key),
        )
    )
    action()
    return body


def _put(holder: Any, key: Any, value: Any) -> None:
    holder[key] = value


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _places(body: Any) -> list[tuple[Any, Any]]:
    """Return each place of a value in the body: its list or object, and its index or name."""
    found: list[tuple[Any, Any]] = []
    left = [body]
    while left and len(found) < 5000:
        holder = left.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in items:
            found.append((holder, key))
            left.append(value)
    return found


def _change_bytes(body: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(body) + 1)
    match chance.randrange(6):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + bytes(chance.randrange(256) for _ in range(4)) + body[at:]
        case 2:
            return body[:at] + body[at + 1 :]
        case 3:
            return body + body
        case 4:
            return b"[" * chance.choice((10, 1000, 200_000)) + body
        case _:
            return bytes(byte ^ (chance.random() < 0.01) for byte in body)
