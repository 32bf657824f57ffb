"""Azurite and a Cosmos DB, started on free ports of 127.0.0.1 with keys made for the run."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from emulators.packages import FOLDER, HERE, node
from taxonomist.taxonomy.errors import TaxonomistError

ACCOUNT = "images"
START_S = 60.0


@dataclass(frozen=True)
class Blob:
    """A running Azurite. `url` is that of the account."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return self.through(self.port)

    def through(self, port: int) -> str:
        """Return the connection string through a proxy on another port."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )


@dataclass(frozen=True)
class Cosmos:
    """A running Cosmos DB."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def connection_string(self) -> str:
        return f"AccountEndpoint={self.url};AccountKey={self.key};"


@contextmanager
def blob(port: int | None = None) -> Iterator[Blob]:
    """Run Azurite in memory."""
    port = port or free_port()
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    command = [
        node(),
        str(FOLDER / "node_modules/azurite/dist/src/blob/main.js"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
    ]
    with _running(command, port, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}) as process:
        yield Blob(port, key, process)


@contextmanager
def cosmos(port: int | None = None, *, advertise: int | None = None) -> Iterator[Cosmos]:
    """Run a Cosmos DB in memory; it announces the port `advertise`, for a proxy in front of it."""
    port = port or free_port()
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    command = [
        node(),
        str(HERE / "cosmos_emulator.js"),
        *("--package", str(FOLDER / "node_modules/@vercel/cosmosdb-server")),
        *("--port", str(port), "--key", key, "--advertise", f"http://127.0.0.1:{advertise or port}/"),
    ]
    with _running(command, port, {}) as process:
        yield Cosmos(port, key, process)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise TaxonomistError(f"{process.args!r:.200} did not start (exit status {process.poll()}).")
