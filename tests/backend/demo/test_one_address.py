"""The proxy of the demo, between real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from taxonomist.backend.demo.one_address import OneAddress, one_address
from tests.backend.web.callers.test_page_address import PROTOCOL, spellings, status


class Upstream(ThreadingHTTPServer):
    """A server that says what it was sent, and which of the two it is."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.name = name
        self.asked: list[str] = []
        self.first_part, self.may_end, self.client_left = threading.Event(), threading.Event(), threading.Event()
        self.reads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if not self.server.reads:
            self.server.may_end.wait(20)
            self.close_connection = True
            return
        if self.path == "/stream":
            self._stream()
            return
        length = int(self.headers.get("Content-Length") or 0)
        first = self.rfile.read(min(length, 4))
        self.server.first_part.set()
        body = first + self.rfile.read(length - len(first))
        self.send_response(201)
        self.send_header("Connection", "close, X-Hop")
        self.send_header("X-Hop", "1")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        text = f"{self.server.name} {self.command} {self.path}\n{self.headers}".encode() + body
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_POST = do_HEAD = do_GET  # noqa: N815

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        self.server.may_end.wait(20)
        try:
            for _ in range(1000):
                self.wfile.write(b"4\r\nlast\r\n")
                if self.connection.recv(1, socket.MSG_DONTWAIT) == b"":
                    break
        except BlockingIOError:
            self.wfile.write(b"0\r\n\r\n")
            return
        except OSError:
            pass
        self.server.client_left.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    with Upstream("label-studio") as label_studio, Upstream("ours") as ours:
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (label_studio, ours)]
        for thread in threads:
            thread.start()
        yield label_studio, ours
        for server, thread in zip((label_studio, ours), threads, strict=True):
            server.may_end.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def site(upstreams: tuple[Upstream, Upstream]) -> Iterator[OneAddress]:
    with one_address(0) as site:
        site.label_studio, site.ours = (server.url for server in upstreams)
        yield site


def test_requests_go_on_as_they_are_without_the_headers_of_a_hop(site: OneAddress) -> None:
    headers = {"Connection": "close, X-Mine", "X-Mine": "1", "TE": "trailers", "Cookie": "a=b", "X-Forwarded-For": "x"}
    target = "/api/x%2Fy/%C3%A4?q=%20a&b=c+d"
    answer = httpx.post(f"{site.url}{target}", headers=headers, content=b"\x00body")
    assert answer.status_code == 201
    first, *lines = answer.text.split("\n")
    assert first == f"label-studio POST {target}"
    sent = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if ":" in line}
    assert sent["host"] == site.url.removeprefix("http://")
    assert (sent["cookie"], sent["content-length"]) == ("a=b", "5")
    assert not {"x-mine", "te", "connection"} & set(sent)
    assert answer.content.endswith(b"\x00body")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "x-hop" not in answer.headers
    assert int(httpx.head(f"{site.url}/x").headers["content-length"]) > 100


def test_pages_are_ours_and_say_that_they_were_forwarded(site: OneAddress) -> None:
    headers = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    answer = httpx.get(f"{site.page_url}/similar?project=4&src=http://a/b?c", headers=headers)
    assert answer.text.startswith("ours GET /taxonomist/similar?project=4&src=http://a/b?c")
    assert "x-forwarded-for: 127.0.0.1" in answer.text.lower()
    assert "10.0.0.1" not in answer.text
    assert httpx.get(site.page_url).headers["location"] == "/taxonomist/"


def test_the_protocol_is_not_there(site: OneAddress, upstreams: tuple[Upstream, Upstream]) -> None:
    port = int(site.url.rpartition(":")[2])
    for name in [*PROTOCOL, "health", "readyz"]:
        for path in spellings(name):
            for prefix in ("/taxonomist", "/Taxonomist", "//taxonomist", "/%74axonomist", "/a/../taxonomist"):
                assert status(port, "POST", f"{prefix}{path}", {}) == 404, (prefix, path)
    assert [server.asked for server in upstreams] == [[], []]


def test_uploads_and_answers_flow_before_they_end(site: OneAddress, upstreams: tuple[Upstream, Upstream]) -> None:
    server = upstreams[0]

    def parts() -> Iterator[bytes]:
        yield b"a" * 4
        assert server.first_part.wait(20)  # the upstream has it, although the upload goes on
        yield b"b" * 4

    assert httpx.post(f"{site.url}/x", content=parts(), headers={"Content-Length": "8"}).text.endswith("aaaabbbb")
    with httpx.stream("GET", f"{site.url}/stream") as answer:
        read = answer.iter_raw()
        assert next(read) == b"first"
        server.may_end.set()
        assert set(b"".join(read)) <= set(b"last")


def test_an_upload_that_nobody_takes_fills_no_memory(site: OneAddress, upstreams: tuple[Upstream, Upstream]) -> None:
    upstreams[0].reads = False
    port, sent = int(site.url.rpartition(":")[2]), 0
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while sent < 32_000_000:  # far more than the buffers of sockets
                sent += client.send(b"x" * 65536)
    assert sent < 32_000_000


def test_a_client_that_leaves_ends_the_request(site: OneAddress, upstreams: tuple[Upstream, Upstream]) -> None:
    with httpx.stream("GET", f"{site.url}/stream") as answer:
        assert next(answer.iter_raw()) == b"first"
    threading.Timer(0.2, upstreams[0].may_end.set).start()
    assert upstreams[0].client_left.wait(20)


def test_a_server_that_is_not_there_yet_gets_a_sentence() -> None:
    with one_address(0) as site:
        for url, name in ((site.url, "Label Studio"), (f"{site.page_url}/", "taxonomist")):
            answer = httpx.get(url)
            assert (answer.status_code, answer.headers["refresh"]) == (502, "3")
            assert answer.text == f"{name} does not answer yet. It may be starting; this page reloads by itself."
        site.label_studio = "http://127.0.0.1:1"
        assert httpx.post(site.url, content=b"x" * 100_000).status_code == 502


def test_a_page_at_another_name_leads_to_the_one_address(site: OneAddress) -> None:
    other = site.url.replace("127.0.0.1", "localhost")
    answer = httpx.get(f"{other}/projects/4?x=1", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (307, f"{site.url}/projects/4?x=1")
    assert httpx.get(f"{other}/api/x").status_code == 201


def test_a_port_that_is_taken_is_replaced(site: OneAddress) -> None:
    with one_address(int(site.url.rpartition(":")[2])) as other:
        assert other.url != site.url
