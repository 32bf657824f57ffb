"""Many clients in one thread, which cost the servers that they measure little of the cores that they share."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RECEIVED = 64 * 1024  # bytes at a time


@dataclass(frozen=True)
class Answer:
    """How long an answer took from the beginning of the connection, in seconds, and whether it was a good one."""

    seconds: float
    ok: bool


@dataclass
class _Exchange:
    number: int
    began: float
    connection: socket.socket
    rest: memoryview  # what is still to be sent
    received: bytearray = field(default_factory=bytearray)

    def is_answered(self) -> bool:
        head, end, body = bytes(self.received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        return bool(end) and length is not None and len(body) >= int(length[1])

    def is_good(self) -> bool:
        return bytes(self.received[9:10]) == b"2"


def post_all(port: int, path: str, bodies: Sequence[bytes], *, clients: int, timeout_s: float) -> list[Answer]:
    """Send each body over a connection of its own, as Label Studio does, and return the answers in their order.

    At most `clients` connections are open at once. An answer that takes longer than `timeout_s` seconds is given up.
    """
    answers = [Answer(timeout_s, ok=False)] * len(bodies)
    waiting = deque(enumerate(bodies))
    open_exchanges: dict[int, _Exchange] = {}
    with selectors.DefaultSelector() as selector:

        def end(exchange: _Exchange, ok: bool) -> None:
            answers[exchange.number] = Answer(time.perf_counter() - exchange.began, ok)
            selector.unregister(exchange.connection)
            exchange.connection.close()
            del open_exchanges[exchange.number]

        while waiting or open_exchanges:
            while waiting and len(open_exchanges) < clients:
                exchange = _begin(port, path, *waiting.popleft())
                open_exchanges[exchange.number] = exchange
                selector.register(exchange.connection, selectors.EVENT_WRITE, exchange)
            for key, events in selector.select(timeout=0.1):
                exchange = key.data
                try:
                    if events & selectors.EVENT_WRITE:
                        exchange.rest = exchange.rest[exchange.connection.send(exchange.rest) :]
                        if not exchange.rest:
                            selector.modify(exchange.connection, selectors.EVENT_READ, exchange)
                    elif data := exchange.connection.recv(_RECEIVED):
                        exchange.received += data
                        if exchange.is_answered():
                            end(exchange, exchange.is_good())
                    else:
                        end(exchange, ok=False)
                except OSError:
                    end(exchange, ok=False)
            now = time.perf_counter()
            for exchange in [exchange for exchange in open_exchanges.values() if exchange.began + timeout_s < now]:
                end(exchange, ok=False)
    return answers


def _begin(port: int, path: str, number: int, body: bytes) -> _Exchange:
    began = time.perf_counter()
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((HOST, port))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return _Exchange(number, began, connection, memoryview(head.encode() + b"\r\n\r\n" + body))
