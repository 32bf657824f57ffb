"""The server's processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

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
