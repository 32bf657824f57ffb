"""The supervisor: a process that keeps one worker running beside the server, and restarts it when it dies or hangs.

It is a process of its own because the server's master process forks and must stay free of threads. The server starts
another one when it was killed, so that an accident of the background work never takes webhooks and predictions down.
It ends when the server that started it is gone, and stops the worker then.

A worker writes to a pipe while it makes progress. One that is silent, because it was stopped or hangs, is killed; its
job counts that attempt. The pipe needs no room on a disk, and silence is measured by the monotonic clock.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

POLL_S = 0.5
SILENT_S = 60.0
BEGIN_S = 1800.0  # until its first sign: it may migrate the home, or wait for the last worker
MAX_PAUSE_S = 60.0
TERMINATE_S = 20.0  # what the worker has to put its job back and to end
_PR_SET_PDEATHSIG = 1


def start_supervisor() -> subprocess.Popen[bytes]:
    """Start the supervisor as a child of this process and return it; it gets the settings from the environment."""
    command = [sys.executable, "-P", "-m", "taxonomist.backend.worker.supervisor", str(os.getpid())]
    return subprocess.Popen(command)  # noqa: S603


def supervise(parent: int) -> None:
    """Run workers, one after the other, until SIGTERM, SIGINT or the end of the process `parent`, which started this
    one. It may have ended before this one begins."""
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    pause = 1.0
    while not stopping and os.getppid() == parent:
        started = time.monotonic()
        with _Worker() as worker:
            while not worker.ended and not stopping and os.getppid() == parent:
                before = time.monotonic()
                time.sleep(POLL_S)
                if time.monotonic() - before > SILENT_S / 2:  # this process was paused, and its worker with it
                    worker.heard()
                if (silent := worker.silent_s) > (SILENT_S if worker.has_begun else BEGIN_S):
                    log.error("the worker has made no progress for %.0f s and is killed", silent)
                    worker.kill()
            if not worker.ended:
                worker.terminate()
                return
        # Restart a worker soon that ran for a while; wait longer each time when workers die at once.
        pause = 1.0 if time.monotonic() - started > MAX_PAUSE_S else min(pause * 2, MAX_PAUSE_S)
        log.error("the worker ended with %s; a new one starts in %.0f s", worker.returncode, pause)
        until = time.monotonic() + pause
        while time.monotonic() < until and not stopping and os.getppid() == parent:
            time.sleep(POLL_S)


class _Worker:
    """A worker process, and our end of its pipe."""

    def __enter__(self) -> _Worker:
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(theirs, False)
        command = [sys.executable, "-P", "-m", "taxonomist", "worker", "--parent", str(os.getpid())]
        self._process = subprocess.Popen([*command, "--beat", str(theirs)], pass_fds=[theirs])  # noqa: S603
        os.close(theirs)
        self._heard = time.monotonic()
        self.has_begun = False
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def silent_s(self) -> float:
        """The seconds since the worker has last made progress, or was started."""
        with suppress(BlockingIOError):
            if os.read(self._pipe, 65_536):
                self._heard, self.has_begun = time.monotonic(), True
        return time.monotonic() - self._heard

    def heard(self) -> None:
        """Begin to wait anew for a sign of the worker."""
        self._heard = time.monotonic()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Let it end; one that was stopped goes on for that."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout=TERMINATE_S)
        except subprocess.TimeoutExpired:
            self.kill()


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent has ended, on Linux: a worker that was stopped, or hangs, would
    keep the lock that the next one needs."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def parent_of(pid: int) -> int | None:
    """Return the process that started another one, or took it over; None where the system does not say it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervise(int(sys.argv[1]))
