"""Our server as it runs: the front, on a socket of this process."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.connection import Worker
from taxonomist.backend.web.front import create_front
from taxonomist.storage.images import loading


@contextmanager
def serving(services: Services, settings: Settings, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve on loopback; yield the port."""
    front = create_front(settings, services)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port: int = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(front, log_config=None, **Worker.CONFIG_KWARGS))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()
            front.close()
            loading._end = math.inf  # this process goes on
