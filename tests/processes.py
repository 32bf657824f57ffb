"""Real `taxonomist` processes for tests: started on a free port, watched, ended with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], object], *, seconds: float = 60, every: float = 0.1, why: str = "it") -> object:
    """The first true value of `what`; the limit only ends a test that would hang."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := what():
            return value
        time.sleep(every)
    raise AssertionError(f"{why} did not happen in {seconds} s")


@dataclass
class Backend:
    """A `taxonomist serve` (or another command) in a process group of its own."""

    home: Path
    port: int = field(default_factory=free_port)
    command: tuple[str, ...] = ("serve",)
    settings: Mapping[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = self.home / "test.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *, wait: bool = True) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TAXONOMIST_")}
        environment |= {"TAXONOMIST_HOME": str(self.home), "TAXONOMIST_PORT": str(self.port)}
        environment |= {f"TAXONOMIST_{name.upper()}": str(value) for name, value in self.settings.items()}
        with (self.home / "test.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backend.cli", *self.command],
                env=environment,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            wait_for(self._answers, why=f"an answer of {self.url}")
        return self

    def kill(self) -> None:
        """What a power cut does: every process of the group is gone at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """Ask it to end, as `systemctl stop` does; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        finally:
            self.kill()

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"{self.url}/livez", timeout=1).is_success
        except httpx.TransportError:
            return False
