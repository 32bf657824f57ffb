"""The server's processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.backend_process import BackendProcess
from tests.soak.processes import lives
from tests.waiting import eventually

pytestmark = pytest.mark.slow


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_port_is_free_after_the_master_was_killed(tmp_path: Path) -> None:
    """Otherwise an orphan would serve on, and no new server could start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {**os.environ, "TAXONOMIST_HOME": str(tmp_path), "TAXONOMIST_PORT": str(port)}
    command = [sys.executable, "-m", "taxonomist", "serve", "--no-worker"]
    first = subprocess.Popen(command, env=variables)
    eventually("the server answers", lambda: answers(port))
    first.send_signal(signal.SIGKILL)
    first.wait()
    eventually("the port is free", lambda: not answers(port))
    second = subprocess.Popen(command, env=variables)
    try:
        eventually("the next server answers", lambda: answers(port))
    finally:
        second.terminate()
        assert second.wait(30) == 0


def test_an_orphan_ends_whatever_its_requests_wait_for(tmp_path: Path) -> None:
    """A process waits for its threads, and a request may wait for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "import sys, time\n"
        "from taxonomist.backend.settings import load_settings\n"
        "from taxonomist.backend.web import connection, server\n"
        "from taxonomist.backend.web.app import Routes\n"
        "connection.ORPHAN_S = 1.0\n"
        "Routes.health = lambda routes: (open(sys.argv[1], 'w').close(), time.sleep(600))\n"
        "server._Server(load_settings(), with_worker=False).run()\n"
    )
    variables = {**os.environ, "TAXONOMIST_HOME": str(tmp_path), "TAXONOMIST_PORT": str(port)}
    begun = tmp_path / "begun"
    master = subprocess.Popen([sys.executable, "-c", code, str(begun)], env=variables)
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    eventually("the server takes requests", lambda: children.read_text().split() and is_open(port))
    (web,) = map(int, children.read_text().split())
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually("a thread answers it", begun.exists)
        master.kill()
        master.wait()
        try:
            eventually("the orphan ends", lambda: not lives(web), timeout=15)
        finally:
            with suppress(ProcessLookupError):
                os.kill(web, signal.SIGKILL)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_server_for_others_needs_a_password(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "home")
    command = [*backend.program, "serve", "--host", "0.0.0.0", "--port", str(backend.port)]
    done = subprocess.run(
        command, env=backend.environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "TAXONOMIST_PASSWORD" in done.stderr) == (2, True)
