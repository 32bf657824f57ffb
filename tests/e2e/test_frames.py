"""Which pages Chromium lets show ours in a frame, with the header that we send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser

from taxonomist.backend.services import Services
from taxonomist.backend.services.framing import framing_sites

pytestmark = pytest.mark.e2e


class _Site(ThreadingHTTPServer):
    """A site on IPv4 and IPv6. Its page shows another one, which has the header, in a frame."""

    address_family = socket.AF_INET6
    header = ""

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Site)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if is_inner := self.path.startswith("/inner"):
            self.send_header("Content-Security-Policy", f"frame-ancestors {self.server.header}")
        self.end_headers()
        inner = f"http://127.0.0.1:{self.server.server_port}/inner"
        self.wfile.write(b"shown" if is_inner else f'<iframe src="{inner}"></iframe>'.encode())

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[_Site]:
    with _Site(("::", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("label_studio", "opened", "is_shown"),
    [
        ("http://bücher.localhost:{port}", "http://bücher.localhost:{port}", True),
        ("http://BÜCHER.localhost:{port}/path", "http://xn--bcher-kva.localhost:{port}", True),
        ("http://label-studio.localhost:{port}", "http://LABEL-studio.localhost:{port}", True),
        ("http://other.localhost:{port}", "http://label-studio.localhost:{port}", False),
        # Chromium has no form for these, so they are not in the header; the doctor says so.
        ("http://[::1]:{port}", "http://[::1]:{port}", False),
        ("http://label_studio.localhost:{port}", "http://label_studio.localhost:{port}", False),
    ],
)
def test_chromium_takes_the_header(
    services: Services, browser: Browser, site: _Site, label_studio: str, opened: str, is_shown: bool
) -> None:
    port = site.server_port
    services.projects.update("4", label_studio_url=label_studio.format(port=port))
    sites = framing_sites(services, "4")
    site.header = sites.header
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(opened.format(port=port))
    page.wait_for_load_state("networkidle")
    [frame] = page.frames[1:]
    assert (frame.url != "chrome-error://chromewebdata/") == is_shown
    assert not [text for text in complaints if "source" in text]  # the header is valid
    assert bool(sites.unnamed) == ("[" in opened or "_" in opened)
    page.close()
