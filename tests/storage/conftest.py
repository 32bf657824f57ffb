"""Real servers, real processes and real full disks for the storage tests."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

import emulators
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog.cosmos_install import install
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.storage.blob_faults import RETRY_POLICY
from tests.storage.registries import BlobPlace, FolderPlace, Place

ROOT = Path(__file__).parents[2]
Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with the route of the path, and records the requests."""

    server: "_Server"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        self.server.web.requests.append((self.path, dict(self.headers)))
        route = self.server.web.routes.get(self.path.split("?")[0])
        try:
            if route is None:
                self.reply(404, b"nothing here")
            else:
                route(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up, as it should

    def reply(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    @property
    def stopped(self) -> threading.Event:
        return self.server.web.stopped

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Web:
    """A server on 127.0.0.1."""

    port: int = 0
    routes: dict[str, Route] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def route(self, path: str, status: int = 200, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.routes[path] = lambda handler: handler.reply(status, data, headers)


class _Server(ThreadingHTTPServer):
    web: Web
    request_queue_size = 64


@pytest.fixture
def start_web() -> Iterator[Callable[[], Web]]:
    servers: list[_Server] = []
    threads: list[threading.Thread] = []

    def start() -> Web:
        server = _Server(("127.0.0.1", 0), Handler)
        server.web = Web(port=server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append(server)
        threads.append(thread)
        return server.web

    yield start
    for server, thread in zip(servers, threads, strict=True):
        server.web.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web(start_web: Callable[[], Web]) -> Web:
    return start_web()


@pytest.fixture
def start_worker() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a function of `tests.storage.workers` in a separate process."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.workers", name, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


IN_EACH_STORE = ["folder", pytest.param("blob", marks=pytest.mark.slow)]
QUICK = RetryPolicy(total_s=5.0, attempt_s=2.0, first_pause_s=0.05, longest_pause_s=0.2)


@pytest.fixture
def blob_account(azurite: emulators.Blob) -> Iterator[BlobAccount]:
    account = BlobAccount.from_connection_string(azurite.connection_string, QUICK)
    yield account
    account.close()


@pytest.fixture
def proxy(azurite: emulators.Blob) -> Iterator[FaultProxy]:
    """The proxy in front of Azurite; some modules override it."""
    with fault_proxy(azurite.port) as running:
        yield running


@pytest.fixture
def hurried_account(azurite: emulators.Blob, proxy: FaultProxy) -> Iterator[BlobAccount]:
    """The account, through the proxy."""
    account = BlobAccount.from_connection_string(azurite.through(proxy.port), RETRY_POLICY)
    yield account
    account.close()


@pytest.fixture
def proxied_place(hurried_account: BlobAccount, tmp_path: Path) -> Iterator[BlobPlace]:
    opened = BlobPlace(hurried_account, uuid4().hex, tmp_path / "machines")
    yield opened
    opened.close()


@pytest.fixture
def blob_place(blob_account: BlobAccount, tmp_path: Path) -> Iterator[BlobPlace]:
    opened = BlobPlace(blob_account, uuid4().hex, tmp_path / "machines")
    yield opened
    opened.close()


@pytest.fixture(params=IN_EACH_STORE)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of models."""
    if request.param == "folder":
        return FolderPlace(tmp_path / "models")
    found: BlobPlace = request.getfixturevalue("blob_place")
    return found


@pytest.fixture
def run_worker(start_worker: Callable[..., subprocess.Popen[str]]) -> Callable[..., list[str]]:
    """Runs it to its end; returns the printed lines."""

    def run(name: str, *arguments: object) -> list[str]:
        process = start_worker(name, *arguments)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        return out.splitlines()

    return run


@pytest.fixture
def cosmos_access(cosmos_server: emulators.Cosmos) -> CosmosAccess:
    """A new database with two containers and our function, on the Cosmos DB of this run."""
    access = CosmosAccess(cosmos_server.url, cosmos_server.key, uuid4().hex, ("images", "older"))
    install(access)
    return access
