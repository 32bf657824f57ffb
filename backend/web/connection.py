"""The connections of the server: headers have a deadline and a limit, so that no client can hold or fill the server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from typing import Any, ClassVar

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker

from taxonomist.backend.malloc import give_back
from taxonomist.storage.images.loading import end_awaited

HEADER_DEADLINE_S = 10.0
MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 800  # a process may have 1,024 open files by default
MAX_PIPELINED = 8  # requests of a connection that wait for the answer to an earlier one
GIVE_BACK_S = 20.0  # between two calls of `malloc.give_back`
ORPHAN_S = 30.0  # what requests have to end once gunicorn is gone
TAKE_DEADLINE_S = 60.0  # until the client has taken what was sent
STOP_S = 3.0  # what requests have for their images once the server stops: Docker kills after ten seconds
IS_WHOLE = "taxonomist.is_whole"  # in the scope of a request whose body has arrived


class _Described:
    """What uvicorn asks of a transport for its addresses, without the socket: Python's lets other threads go first."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def get_extra_info(self, name: str) -> object:
        """Return host and port, also of IPv6, which has more to its addresses."""
        info = self._transport.get_extra_info(name) if name != "socket" else None
        return info[:2] if name in {"peername", "sockname"} and isinstance(info, tuple) else info


class Connection(HttpToolsProtocol):
    """HTTP/1.1, with the limits that uvicorn has not.

    The headers of a request must be complete in time. When there are too many connections, the server closes the oldest
    one whose request is incomplete, so that silent clients cannot exclude others.
    """

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _began = 0.0  # when the headers began
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await the headers of the first request."""
        super().connection_made(_Described(transport))  # type: ignore[arg-type]
        self.transport, self.flow = transport, FlowControl(transport)
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` is called for each byte that is not taken
        self._await_headers()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [found for found in self.connections if isinstance(found, Connection) and found._is_incomplete()]
            min(waiting, key=lambda found: found._began).transport.abort()

    def pause_writing(self) -> None:
        """Close the connection of a client that does not take its answer, also one that is being closed."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(TAKE_DEADLINE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has taken everything."""
        self._stop_taking()
        super().resume_writing()

    def shutdown(self) -> None:
        """End after the answer: the server stops. Images that do not come are left to the worker."""
        super().shutdown()
        end_awaited(time.monotonic() + STOP_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_waiting()
        self._stop_taking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if not self._in_headers:
            return
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()
        elif self._deadline is None and not self._is_answering():  # of a further request
            self._await_headers()

    def on_headers_complete(self) -> None:
        """Begin to answer: headers are complete."""
        is_odd = self.parser.should_upgrade() or not self._is_addressed_to_its_host()
        if len(self.pipeline) >= MAX_PIPELINED or is_odd:
            raise ValueError  # the parser stops, and the client gets 400
        self._in_headers, self._header_bytes = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect a further request: the body is complete."""
        self._in_headers = True
        self.scope[IS_WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _is_addressed_to_its_host(self) -> bool:
        """Return whether a target with a host, as proxies get it, has the host of the header (RFC 9112, 3.2.2): only
        the header is checked."""
        _, mark, rest = self.url.partition(b"://")
        if self.url.startswith(b"/") or not mark:
            return True
        authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
        return authority.lower() == dict(self.headers).get(b"host", b"").strip().lower()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_incomplete(self) -> bool:
        return self._deadline is not None or (self._is_answering() and self.cycle.more_body)

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _await_headers(self) -> None:
        self._began = self.loop.time()
        self._deadline = self.loop.call_later(HEADER_DEADLINE_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Worker(UvicornWorker):  # type: ignore[misc]
    """gunicorn's worker process, with an event loop. Forwarding headers are left to our application."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "http": Connection,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "headers": [("X-Content-Type-Options", "nosniff")],  # of every answer, also of uvicorn's own
        "access_log": False,
        "timeout_graceful_shutdown": 25,  # before gunicorn ends the process
        "timeout_notify": float("-inf"),  # each second, also after the clock was set back
    }

    _give_back_at = 0.0

    async def callback_notify(self) -> None:
        """Tell gunicorn that the loop runs, and give back memory. End when gunicorn is gone: the next server needs the
        port.

        The process waits for the threads of its requests, so it is ended after `ORPHAN_S` in any case.
        """
        await super().callback_notify()
        if time.monotonic() >= self._give_back_at:
            self._give_back_at = time.monotonic() + GIVE_BACK_S
            asyncio.get_running_loop().run_in_executor(None, give_back)
        if os.getppid() != self.ppid:
            end = threading.Timer(ORPHAN_S, os._exit, [1])
            end.daemon = True
            end.start()
            os.kill(os.getpid(), signal.SIGTERM)
