"""Keeps one worker alive beside the server: starts it, and starts it again when it dies.

A process of its own, since the server's master process forks and must stay free of threads. It ends when the server
that started it is gone, and takes the worker along.
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

LOOK_S = 0.5
LONGEST_PAUSE_S = 60.0


def start_supervisor() -> subprocess.Popen[bytes]:
    """Start the supervisor as a child of this process; it inherits the settings by the environment."""
    return subprocess.Popen([sys.executable, "-P", "-m", "taxonomist.backend.worker.supervisor"])


def supervise() -> None:
    """Run workers, one after the other, until told to stop or until the parent process is gone."""
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
            time.sleep(LOOK_S)
        if worker.poll() is None:
            _end(worker)
            return
        # One that ran for a while died of something new; one that dies at once would only fill the log.
        pause = 1.0 if time.monotonic() - started > LONGEST_PAUSE_S else min(pause * 2, LONGEST_PAUSE_S)
        log.error("the worker ended with %s; a new one starts in %.0f s", worker.returncode, pause)
        until = time.monotonic() + pause
        while time.monotonic() < until and not stopping and os.getppid() == parent:
            time.sleep(LOOK_S)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(timeout=20)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervise()
