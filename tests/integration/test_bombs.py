"""Everything that takes much memory, at once and from 16 clients, at a server process with its default settings."""

from __future__ import annotations

import copy
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxonomist.backend.services import Services
from taxonomist.taxonomy.label_config import write_label_config
from tests.small_world import CONFIG
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")]

CLIENTS = 16
MOST_BYTES = 1_500_000_000
ALIVE_S = 20.0  # generous: the server answers, whatever it is doing


def deep_png(side: int) -> bytes:
    """Return a black PNG with 16 bits for each of its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    header = side.to_bytes(4) * 2 + bytes([16, 0, 0, 0, 0])
    rows = zlib.compress(bytes(side * (1 + 2 * side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@contextmanager
def image_host() -> Iterator[str]:
    """Yield "host:port" of a server of images that are bombs; the last part of a path says which."""
    files = {
        "deep.png": (deep_png(7000), {}),
        "gzip.png": (gzip.compress(gzip.compress(bytes(200_000_000))), {"Content-Encoding": "gzip, gzip"}),
        "large.png": (b"\x89PNG" + bytes(49_000_000), {}),
    }
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if name not in files:
                stopped.wait()
                return
            data, headers = files[name]
            self.send_response(200)
            for header, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(header, value)
            self.end_headers()
            with suppress(OSError):  # the client has seen enough
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def server_process(home: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {f"TAXONOMIST_{name}": value for name, value in settings.items()}
    variables |= {"TAXONOMIST_HOME": str(home), "TAXONOMIST_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "taxonomist", "serve", "--no-worker"], env={**os.environ, **variables}
    )
    site = f"http://127.0.0.1:{port}"
    try:
        eventually("the server answers", lambda: is_alive(site))
        yield site, process
    finally:
        process.terminate()
        process.wait(60)


def is_alive(site: str) -> bool:
    try:
        return httpx.get(f"{site}/health", timeout=ALIVE_S).status_code == 200
    except httpx.HTTPError:
        return False


def most_memory(master: int) -> int:
    """Return the most bytes that a process of the server has had in memory."""
    pids = [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return max(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def bombs(webhook: dict[str, Any], host: str) -> list[tuple[str, bytes]]:
    """Return paths and bodies."""

    def hook(number: int, xml: str) -> tuple[str, bytes]:
        body = copy.deepcopy(webhook)
        body["annotation"] |= {"id": number, "task": number}
        body["task"] |= {"id": number}
        body["project"] |= {"label_config": xml}
        return "/webhook", json.dumps(body).encode()

    def predict(number: int, name: str) -> tuple[str, bytes]:
        tasks = [{"id": n, "data": {"image": f"http://{host}/{number}/{n}/{name}"}} for n in range(1, 9)]
        return "/predict", json.dumps({"tasks": tasks, "project": "7.1", "label_config": CONFIG}).encode()

    def flat(number: int, count: int) -> str:
        return write_label_config([(f"choice {number} {n}",) for n in range(count)])

    nested = '<Choice value="n">' * 15_000 + "</Choice>" * 15_000
    found = [hook(number, flat(number, 80_000)) for number in range(8)]
    found += [hook(number, flat(number, 49_000)) for number in range(4)]
    found += [hook(number, CONFIG.replace('<Choice value="Red"/>', nested)) for number in range(8)]
    for name in ("deep.png", "gzip.png", "large.png", "silent.png"):
        found += [predict(number, name) for number in range(2)]
    for path in ("/webhook", "/predict", "/setup"):
        for part in (b"[],", b"{},", b'"ab",', b"123456,"):
            content = part * (16_000_000 // len(part))
            found.append((path, b"[" + content + b"0]"))
    return found


def test_all_bombs_at_once(trained: Services, captures: list[dict[str, Any]]) -> None:
    webhook = next(found["body"] for found in captures if found["capture"] == "12-annotation-created")
    settings = {"PREDICT_DEADLINE": "10", "IMAGE_TIMEOUT": "3"}
    with (
        image_host() as host,
        server_process(trained.settings.home, ALLOWED_IMAGE_HOSTS=host, **settings) as (site, process),
        ThreadPoolExecutor(CLIENTS) as clients,
    ):

        def send(bomb: tuple[str, bytes]) -> int:
            path, body = bomb
            headers = {"Content-Type": "application/json"}
            return httpx.post(f"{site}{path}", content=body, headers=headers, timeout=300).status_code

        ended = threading.Event()
        seen: list[bool] = []

        def watch() -> None:
            while not ended.is_set():
                seen.append(is_alive(site))
                ended.wait(0.5)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            statuses = list(clients.map(send, bombs(webhook, host)))
        finally:
            ended.set()
            watching.join()
        assert set(statuses) <= {200, 201, 400, 503}
        assert statuses.count(400) >= CLIENTS
        assert all(seen)
        assert most_memory(process.pid) < MOST_BYTES
        answer = httpx.post(f"{site}/webhook", json=webhook, timeout=ALIVE_S)
        assert answer.status_code == 201
