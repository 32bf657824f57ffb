"""The supervisor: a process that keeps one worker running beside the server, and restarts it when it dies.

It is a process of its own because the server's master process forks and must stay free of threads. It ends when the
server that started it is gone, and stops the worker then.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType

log = logging.getLogger(__name__)

POLL_S = 0.5
MAX_PAUSE_S = 60.0
TERMINATE_S = 20.0  # what the worker has to put its job back and to end


def start_supervisor() -> subprocess.Popen[bytes]:
    """Start the supervisor as a child of this process and return it; it gets the settings from the environment."""
    return subprocess.Popen([sys.executable, "-P", "-m", "taxonomist.backend.worker.supervisor"])


def supervise() -> None:
    """Run workers, one after the other, until SIGTERM, SIGINT or the end of the parent process."""
    parent = os.getppid()
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    pause = 1.0
    while not stopping and os.getppid() == parent:
        started = time.monotonic()
        worker = subprocess.Popen([sys.executable, "-P", "-m", "taxonomist", "worker", "--parent", str(os.getpid())])  # noqa: S603
        while worker.poll() is None and not stopping and os.getppid() == parent:
            time.sleep(POLL_S)
        if worker.poll() is None:
            _terminate(worker)
            return
        # Restart a worker soon that ran for a while; wait longer each time when workers die at once.
        pause = 1.0 if time.monotonic() - started > MAX_PAUSE_S else min(pause * 2, MAX_PAUSE_S)
        log.error("the worker ended with %s; a new one starts in %.0f s", worker.returncode, pause)
        until = time.monotonic() + pause
        while time.monotonic() < until and not stopping and os.getppid() == parent:
            time.sleep(POLL_S)


def _terminate(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(timeout=TERMINATE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervise()
