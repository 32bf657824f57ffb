"""Both servers as processes, and a client that costs little, because it shares the cores with them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.clients import HOST
from benchmarks.world import PROJECT, World

Side = Literal["ours", "peer", "peer-kept", "earlier"]


@dataclass(frozen=True)
class Server:
    """A running server. `folder` has its state, `start_s` is how long it took until /health answered, in seconds."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    start_s: float

    def get(self, path: str, timeout: float = 30) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        return _exchange(self.port, "GET", path, None, timeout)

    def post(self, path: str, body: bytes, timeout: float = 600) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        return _exchange(self.port, "POST", path, body, timeout)

    def predict(self, config: str, names: list[str]) -> list[dict[str, Any]]:
        """Return the results for tasks with these images. Raises `RuntimeError` unless each task has one."""
        tasks = [{"id": number, "data": {"image": name}, "meta": {}} for number, name in enumerate(names, start=1)]
        body = {"tasks": tasks, "label_config": config, "project": PROJECT, "params": {}}
        status, answer = self.post("/predict", json.dumps(body).encode())
        results: list[dict[str, Any]] = json.loads(answer).get("results", []) if status == 200 else []
        if len(results) != len(names):
            raise RuntimeError(f"/predict answered {status} with {len(results)} results for {len(names)} tasks.")
        return results


@contextmanager
def serving(
    side: Side, world: World, *, worker: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run one of the servers with a fresh copy of its state; stop it and its children at the end of the block.

    `settings` are further ones of ours.
    """
    folder = world.folder / "running" / side
    shutil.rmtree(folder, ignore_errors=True)
    port = _free_port()
    if side in {"ours", "earlier"}:
        command, variables = _ours(world, side, folder, port, worker)
    else:
        command, variables = _peer(world, side, folder, port)
    further = {f"TAXONOMIST_{name}": value for name, value in (settings or {}).items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TAXONOMIST_", "PEER_"))}
    with (world.folder / f"{side}.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, **variables, **further},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for_health(process, port, Path(log.name))
            yield Server(process, port, folder, time.perf_counter() - began)
        finally:
            _stop(process)


def _ours(world: World, side: Side, folder: Path, port: int, worker: bool) -> tuple[list[str], Mapping[str, str]]:
    settings = {"HOME": folder, "PORT": port, "IMAGES_FOLDER": world.images, "LOG_LEVEL": "WARNING"}
    environment = {f"TAXONOMIST_{name}": str(value) for name, value in settings.items()}
    if side == "ours":
        home, module = world.home, "taxonomist"
    else:
        assert world.earlier is not None
        home, module = world.earlier.home, world.earlier.module
        environment["PYTHONPATH"] = os.pathsep.join(world.earlier.paths)
    shutil.copytree(home, folder)
    return [sys.executable, "-m", module, "serve", *([] if worker else ["--no-worker"])], environment


def _peer(world: World, side: Side, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    shutil.copytree(world.peer, folder)
    gunicorn = [sys.executable, "-m", "gunicorn", "--preload", "--bind", f"{HOST}:{port}"]  # as in their Dockerfile
    project = Path(__file__).resolve().parents[1]
    settings = {
        "PEER_FOLDER": str(folder),
        "PEER_IMAGES": str(world.images),
        "PEER_SIZE": str(world.size),
        "PEER_KEEP_MODEL": "1" if side == "peer-kept" else "0",
        "PYTHONPATH": str(project),
    }
    gunicorn += ["--workers", "1", "--threads", "8", "--timeout", "0"]
    # Otherwise it waits half a minute for silent clients when it is stopped.
    return [*gunicorn, "--graceful-timeout", "2", "benchmarks.peer:app"], settings


def _exchange(port: int, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
    """Return status and body, over a new connection for each request as Label Studio opens them."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _wait_for_health(process: subprocess.Popen[bytes], port: int, log: Path, limit_s: float = 120) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until and process.poll() is None:
        try:
            if _exchange(port, "GET", "/health", None, 5)[0] == 200:
                return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"The server did not answer /health:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate as a service manager does, so that its children's processor time is counted; then kill the group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=40)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
