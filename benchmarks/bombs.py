"""Requests that are small to send and large to answer, all at once, while /health and the memory are watched."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from benchmarks.clients import HOST
from benchmarks.measure import memory_of
from benchmarks.servers import Server, Side, serving
from benchmarks.serving import webhook_bodies
from benchmarks.world import Scale, World

GIVEN_UP_S = 60.0
_IMAGE = "bomb.png"


def bombs(side: Side, world: World, scale: Scale) -> dict[str, float]:
    """Measure the peak memory and the slowest /health while each client sends every bomb twice, all at once.

    A bomb is a 16-bit image of 8,000 x 8,000 pixels in 0.1 MB, an answer of an image host in a few kB that is 2 GB when
    it is unpacked twice, a labelling config of 80,000 choices, one of 10,000 levels, or a body of 64 MB. The peer reads
    no labelling config and asks no image host.
    """
    (world.images / _IMAGE).write_bytes(_large_png(scale.bomb_pixels))
    with _packing_host(scale.bomb_packed) as host, serving(side, world, settings=_settings(host)) as server:
        server.predict(world.config, [world.names[-1]])
        images = [_IMAGE] + ([f"http://{host}/a.jpg"] if side == "ours" else [])
        calls = [(path, body) for path, body in _bodies(world, scale, images) for _ in range(2)]
        with _watched(server) as seen, ThreadPoolExecutor(scale.bombers) as pool:
            work = [partial(_send, server, path, body) for _ in range(scale.bombers) for path, body in calls]
            answers = list(pool.map(lambda call: call(), work))
        time.sleep(2)
        after = memory_of(server.process.pid).rss
        alive = server.process.poll() is None
    (world.images / _IMAGE).unlink()
    return {
        "peak": max(seen["memory"]),
        "after": after,
        "health": 1000 * max(seen["health"]),
        "unanswered": sum(status == 0 for status in answers),
        "died": float(not alive),
    }


def _settings(host: str) -> dict[str, str]:
    return {"ALLOWED_IMAGE_HOSTS": host, "ALLOW_PRIVATE": "true"}


def _bodies(world: World, scale: Scale, images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    request: dict[str, object] = {"project": "1", "params": {}}
    for image in images:
        request["tasks"] = [{"id": 1, "data": {"image": image}}]
        yield "/predict", json.dumps({**request, "label_config": world.config}).encode()
    wide = "".join(f'<Choice value="c{number}"/>' for number in range(80_000))
    deep = '<Choice value="c">' * 10_000 + "</Choice>" * 10_000
    for inner in (wide, deep):
        config = (
            f'<View><Image name="image" value="$image"/><Taxonomy name="t" toName="image">{inner}</Taxonomy></View>'
        )
        yield "/setup", json.dumps({"project": "1.1", "schema": config, "hostname": "", "access_token": ""}).encode()
        webhook = json.loads(webhook_bodies(1)[0])
        webhook["project"]["label_config"] = config
        yield "/webhook", json.dumps(webhook).encode()
    yield "/predict", json.dumps({**request, "label_config": "x" * scale.bomb_body}).encode()


@contextmanager
def _packing_host(size: int) -> Iterator[str]:
    """Yield "host:port" of an image host whose answers have that many bytes when they are unpacked twice."""
    body = _packed_twice(size)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip, gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@cache
def _packed_twice(size: int) -> bytes:
    packer, inner = zlib.compressobj(9, wbits=31), bytearray()
    for _ in range(size // 1_000_000):
        inner += packer.compress(bytes(1_000_000))
    inner += packer.flush()
    return gzip.compress(bytes(inner), 9)


def _large_png(side: int) -> bytes:
    """Return a square 16-bit image in few bytes."""
    out = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint16)).save(out, "PNG")
    return out.getvalue()


def _send(server: Server, path: str, body: bytes) -> int:
    with suppress(OSError, http.client.HTTPException):
        return server.post(path, body, timeout=GIVEN_UP_S)[0]
    return 0


@contextmanager
def _watched(server: Server) -> Iterator[dict[str, list[float]]]:
    """Yield the megabytes and the seconds for /health, both measured again and again while the block runs."""
    seen: dict[str, list[float]] = {"memory": [0.0], "health": [0.0]}
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(0.05):
            with suppress(OSError):
                seen["memory"].append(memory_of(server.process.pid).rss)

    def ask() -> None:
        while not stopped.wait(0.2):
            began = time.perf_counter()
            with suppress(OSError, http.client.HTTPException):
                server.get("/health", timeout=GIVEN_UP_S)
            seen["health"].append(time.perf_counter() - began)

    works: list[Callable[[], None]] = [look, ask]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
