"""Our own server as a user starts it: `taxonomist serve` in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from taxonomist.backend.demo.server import HOST, free_port
from tests.waiting import eventually

TAXONOMIST = Path(sys.executable).with_name("taxonomist")


@dataclass
class BackendProcess:
    """`taxonomist serve` on a free port, with its state in `home`; `settings` are names without `TAXONOMIST_`.

    `program` is the command line; `folder` is where it is started, by default the home, so that no taxonomist.toml of
    the person who runs the tests is read. `variables` are set besides.
    """

    home: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("serve",)
    program: tuple[str, ...] = (str(TAXONOMIST),)
    folder: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.home.name}.log"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment for `taxonomist` commands on the same state."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAXONOMIST_")}
        ours = {"home": str(self.home), "host": HOST, "port": str(self.port), "blind_share": 0, **self.settings}
        named = {f"TAXONOMIST_{name.upper()}": str(value) for name, value in ours.items()}
        return inherited | named | dict(self.variables)

    def start(self) -> Self:
        """Start it and wait until it answers."""
        assert self.process is None or self.process.poll() is not None
        with self.log.open("ab") as log:
            self.home.mkdir(parents=True, exist_ok=True)
            self.process = subprocess.Popen(
                [*self.program, *self.arguments],
                cwd=self.folder or self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually("taxonomist serve answers /health", self._answers, timeout=60)
        return self

    def command(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run another `taxonomist` command on the same state; it must succeed."""
        self.home.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder or self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"taxonomist {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}\n{self.said()}"
        return done

    def kill(self) -> None:
        """Send SIGKILL to the whole group, so that no handler runs."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int | None:
        """End it as a service manager does; return its exit status. Processes left after half a minute are killed."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(timeout=30)
            self._signal(signal.SIGKILL)
        return self.process.returncode if self.process else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def said(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _signal(self, sign: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            self.process.wait(timeout=30)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"taxonomist serve ended with {self.process.returncode}:\n{self.said()}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success
        return False
