"""A reverse proxy on loopback that serves several servers of this machine below paths of one address."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host"}


@contextmanager
def path_proxy(
    upstreams: Mapping[str, int], *, removes: bool = True, headers: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve the ports of `upstreams` below their paths, also those added later; yield the address of the proxy.

    `removes`: requests go on without the path, as with nginx's `proxy_pass http://host:port/`. `headers` are added.
    """
    added = headers or {}
    client = httpx.Client(trust_env=False, timeout=60, follow_redirects=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            prefix = next((prefix for prefix in upstreams if self.path.startswith(f"{prefix}/")), None)
            if prefix is None:
                self._reply(404, [], b"nothing here")
                return
            path = self.path[len(prefix) :] if removes else self.path
            sent = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            sent |= {"Host": self.headers["Host"], "Accept-Encoding": "identity", **added}
            url = httpx.URL(f"http://127.0.0.1:{upstreams[prefix]}", raw_path=path.encode("latin-1"))
            answer = client.request(self.command, url, headers=sent, content=body)
            given = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in HOP_BY_HOP]
            self._reply(answer.status_code, given, answer.content)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

        def _reply(self, status: int, given: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in given:
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()
