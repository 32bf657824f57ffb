"""A small reverse proxy on loopback: Label Studio and our pages at one address.

Label Studio is at `/`, our pages are below `/taxonomist/`. What Label Studio and programs call of our server is not
there: they use its own address. Paths and bodies go on as they are, in both directions piece by piece, so that uploads
of any size take no memory.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import httpx
import uvicorn

from taxonomist.backend.demo.server import HOST, listen
from taxonomist.backend.web.callers.page_address import PROTOCOL
from taxonomist.storage.network.http_clients import forwarding_transport

PREFIX = "taxonomist"
CLOSED = PROTOCOL | {"health", "livez", "readyz"}
TIMEOUTS = {"connect": 5.0, "read": 600.0, "write": 600.0, "pool": 30.0}
RELOAD_S = 3
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"),
        *(b"trailer", b"trailers", b"transfer-encoding", b"upgrade"),
    }
)
_FRAMING = frozenset({b"content-length", b"expect"})
_FORWARDING = (b"forwarded", b"x-forwarded-")

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]


class _ClientGoneError(Exception):
    """The client has closed its connection before the end of its request."""


class OneAddress:
    """The ASGI application of the proxy. `label_studio` and `ours` are addresses, None before their servers run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.label_studio: str | None = None
        self.ours: str | None = None
        self._transport = forwarding_transport()

    @property
    def page_url(self) -> str:
        """The address of our pages."""
        return f"{self.url}/{PREFIX}"

    async def close(self) -> None:
        """Close what is left of the connections to the servers."""
        await self._transport.aclose()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Send one request on, or answer it."""
        body_ended = asyncio.Event()

        async def gone() -> None:
            await body_ended.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        answering = asyncio.create_task(self._answer(scope, _Body(receive, body_ended), send))
        leaving = asyncio.create_task(gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:  # also when the server stops
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        if not answering.cancelled() and (error := answering.exception()) and not isinstance(error, _ClientGoneError):
            raise error

    async def _answer(self, scope: Message, body: _Body, send: Callable[[Message], Awaitable[None]]) -> None:
        headers: Headers = scope["headers"]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        parts = _parts(scope["path"])
        if _is_elsewhere(headers, self.url):  # seen at another name, Label Studio's pages reload for ever
            await _reply(send, 307, "Label Studio is at another address.", [(b"location", self.url.encode() + target)])
        elif parts[:1] != [PREFIX]:
            await self._forward(scope["method"], self.label_studio, "Label Studio", target, headers, body, send)
        elif scope["raw_path"] == f"/{PREFIX}".encode():
            await _reply(send, 308, "The pages are one level deeper.", [(b"location", f"/{PREFIX}/".encode())])
        elif (parts[1:2] and parts[1] in CLOSED) or not scope["raw_path"].startswith(f"/{PREFIX}/".encode()):
            await _reply(send, 404, "Only pages are at this address.")
        else:
            address = (scope["client"] or ("unknown", 0))[0].encode()
            kept = [(name, value) for name, value in headers if not name.startswith(_FORWARDING)]
            kept += [(b"x-forwarded-for", address), (b"x-forwarded-proto", scope["scheme"].encode())]
            await self._forward(scope["method"], self.ours, "taxonomist", target, kept, body, send)

    async def _forward(
        self,
        method: str,
        server: str | None,
        name: str,
        target: bytes,
        headers: Headers,
        body: _Body,
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Send a request on to a server and its answer back."""
        names = {name for name, _ in headers}
        is_chunked = b"transfer-encoding" in names
        has_body = is_chunked or b"content-length" in names
        if not has_body:
            body.ended.set()
        sent = [(name, value) for name, value in _end_to_end(headers) if name not in _FRAMING]
        if is_chunked:
            sent.append((b"transfer-encoding", b"chunked"))
        elif has_body:
            sent += [(name, value) for name, value in headers if name == b"content-length"]
        try:
            if server is None:
                raise httpx.ConnectError("it is not started yet")
            request = httpx.Request(
                method,
                httpx.URL(server).copy_with(raw_path=target),
                headers=sent,
                stream=body if has_body else httpx.ByteStream(b""),
                extensions={"timeout": TIMEOUTS},
            )
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            doing = "does not answer yet" if isinstance(error, httpx.ConnectError) else "has ended the connection"
            text = f"{name} {doing}. It may be starting; this page reloads by itself."
            await _reply(send, 502, text, [(b"refresh", b"%d" % RELOAD_S), (b"retry-after", b"%d" % RELOAD_S)])
            return
        try:
            given = _end_to_end(response.headers.raw)
            await send({"type": "http.response.start", "status": response.status_code, "headers": given})
            async for part in response.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a request, piece by piece as it arrives. It may be left unread."""

    def __init__(self, receive: Callable[[], Awaitable[Message]], ended: asyncio.Event) -> None:
        self._receive = receive
        self.ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            more = message.get("more_body", False)
            if part := message.get("body", b""):
                yield part
        self.ended.set()


@contextmanager
def one_address(port: int) -> Iterator[OneAddress]:
    """Run the proxy in a thread, on a port of loopback or, where that is taken, any other; yield its application."""
    with listen(port) as listener:
        application = OneAddress(f"http://{HOST}:{listener.getsockname()[1]}")
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
            )
        )

        async def serve() -> None:
            try:
                await server.serve([listener])
            finally:
                await application.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="one-address")
        thread.start()
        try:
            yield application
        finally:
            server.should_exit = True
            thread.join()


def _parts(path: str) -> list[str]:
    """Return the parts of a path as the most lenient server would read them."""
    for _ in range(5):
        path = unquote(path)
    parts: list[str] = []
    for part in path.replace("\\", "/").lower().split("/"):
        part = re.split(r"[^\w.-]", part.strip(), maxsplit=1)[0]
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return parts


def _is_elsewhere(headers: Headers, url: str) -> bool:
    """Return whether a person opens a page by another name than that of the proxy."""
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    wants_page = any(name == b"accept" and b"text/html" in value for name, value in headers)
    return wants_page and host.lower() != url.removeprefix("http://")


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that a proxy sends on (RFC 9110, 7.6.1), with names in lower case."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in lower if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in lower if name not in _HOP_BY_HOP | named]


async def _reply(
    send: Callable[[Message], Awaitable[None]], status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    body = text.encode()
    given = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})
