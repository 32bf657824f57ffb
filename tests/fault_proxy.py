"""A proxy on loopback that lets requests through, or provokes the fault that a test asks for."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from taxonomist.storage.event_loop_thread import EventLoopThread

END_OF_HEAD = b"\r\n\r\n"
LIMIT = 2**20


@dataclass(frozen=True)
class Fault:
    """The faults of one request; an unset field has no effect.

    `status` is answered in place of the server, with `headers` and `body`. `delay` seconds pass before the request goes
    on, `late` before the answer comes back. `cut` lets so many bytes of the body through and closes; `trickle` sends so
    many bytes a time, a pause of so many seconds after each. `reset` breaks the connection before the server sees the
    request, `lose` after it has answered.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    late: float = 0.0
    cut: int | None = None
    trickle: tuple[int, float] | None = None
    reset: bool = False
    lose: bool = False


class Request(NamedTuple):
    """A request as the proxy saw it; `number` counts from 1 since the last `use`."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]


Rule = Callable[[Request], Fault | None]
PASS = Fault()


class FaultProxy:
    """Runs while the block of `fault_proxy` does. Since the last `use`: `requests`, and how many `most_at_once`."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._now = 0
        self._connections: set[asyncio.Task[None]] = set()  # a loop alone would let them be collected
        self._rule: Rule = lambda request: None

    def use(self, rule: Rule = lambda request: None) -> None:
        """Apply this rule from now on; without a rule every request is forwarded."""
        self.requests = []
        self.most_at_once = 0
        self._rule = rule

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: writer.close())  # of one that was cancelled before its first step, too

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request and its answer; return whether the connection stays open."""
        head, line, headers = await _head(reader)
        body = await _body(reader, headers)
        method, path, _ = line.split(" ", 2)
        request = Request(len(self.requests) + 1, method, path, headers)
        self.requests.append(request)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._carry_out(self._rule(request) or PASS, head + body, method, writer)
        finally:
            self._now -= 1

    async def _carry_out(self, fault: Fault, raw: bytes, method: str, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(fault.delay)
        if fault.reset:
            return _break(writer)
        if fault.status is not None:
            await _answer(writer, fault, method)
            return True
        return await self._forward(raw, method, fault, writer)

    async def _forward(self, raw: bytes, method: str, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=LIMIT)
        try:
            up_writer.write(raw)
            await up_writer.drain()
            head, line, headers = await _head(up_reader)
            bodiless = method == "HEAD" or int(line.split()[1]) in (204, 304)
            data = b"" if bodiless else await _body(up_reader, headers)
            if fault.lose:
                return _break(writer)
            await asyncio.sleep(fault.late)
            writer.write(head)
            step, pause = fault.trickle or (len(data) or 1, 0.0)
            for start in range(0, len(data) if fault.cut is None else fault.cut, step):
                writer.write(data[start : min(start + step, len(data) if fault.cut is None else fault.cut)])
                await writer.drain()
                await asyncio.sleep(pause)
            await writer.drain()
            return fault.cut is None and headers.get("connection", "").lower() != "close"
        finally:
            up_writer.close()


@contextmanager
def fault_proxy(upstream: int) -> Iterator[FaultProxy]:
    """Run a proxy in front of a port of this machine."""
    proxy = FaultProxy(upstream)
    loop = EventLoopThread()
    server = loop.run(proxy.serve)

    async def stop() -> None:
        server.close()
        await asyncio.sleep(0.01)  # a connection that was just accepted gets its task
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)  # what they closed is closed now

    try:
        yield proxy
    finally:
        loop.run(stop)
        loop.close()


async def _head(reader: asyncio.StreamReader) -> tuple[bytes, str, dict[str, str]]:
    raw = await reader.readuntil(END_OF_HEAD)
    line, *lines = raw.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if ":" in line)
    return raw, line, {name.strip().lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """Return the body as received, chunks with their sizes."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", 0) or 0))
    body = b""
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


async def _answer(writer: asyncio.StreamWriter, fault: Fault, method: str) -> None:
    headers = {"content-length": str(len(fault.body)), "content-type": "application/xml", **fault.headers}
    lines = [f"HTTP/1.1 {fault.status} Fault", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(lines).encode() + END_OF_HEAD + (b"" if method == "HEAD" else fault.body))
    await writer.drain()


def _break(writer: asyncio.StreamWriter) -> bool:
    """Close with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
