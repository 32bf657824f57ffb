"""A host of images that often answers wrongly: wrong lengths and types, errors, broken and slow connections."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.small_world import PATHS, image_bytes

FAULTS = ("too long", "too short", "type", "not an image", "error", "reset", "slow")


class ImageHost:
    """Serves `/N.jpg` in the colour of `PATHS[N % 4]` while its block runs; a share of the answers is wrong."""

    def __init__(self, seed: int, share: float = 0.3) -> None:
        self.share = share
        self._random = random.Random(seed)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def host(self) -> str:
        """Return "host:port"."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = int(self.path.strip("/").partition(".")[0])
                data = image_bytes(PATHS[number % len(PATHS)], number)
                fault = host._random.choice(FAULTS) if host._random.random() < host.share else ""
                if fault == "reset":
                    self.connection.close()
                    return
                if fault == "slow":
                    time.sleep(2)
                if fault == "not an image":
                    data = b"<html>Not found</html>"
                length = len(data) + {"too long": 100, "too short": -100}.get(fault, 0)
                with suppress(OSError):
                    self.send_response(503 if fault == "error" else 200)
                    self.send_header("Content-Type", "text/html" if fault == "type" else "image/jpeg")
                    self.send_header("Content-Length", str(length))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
