"""Our server as it runs: the front, on a socket of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.connection import Worker
from taxonomist.backend.web.front import create_front


@contextmanager
def serving(services: Services, settings: Settings) -> Iterator[int]:
    """Serve on loopback; yield the port."""
    front = create_front(settings, services)
    with socket.create_server(("127.0.0.1", 0)) as listener:
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
