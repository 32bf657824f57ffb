"""Label Studio as a child process: its settings, its log, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taxonomist.backend.demo.environment import Say
from taxonomist.taxonomy.errors import LabelStudioError

START_TIMEOUT_S = 600.0  # a first start applies all migrations: minutes on a slow machine
STOP_TIMEOUT_S = 10.0
END_WITH_PARENT = Path(__file__).with_name("end_with_parent.py")

_SETTINGS = {
    "ENABLE_LEGACY_API_TOKEN": "true",  # read once, when the organisation is made
    "DISABLE_SIGNUP_WITHOUT_LINK": "true",
    # The backend is on this machine, too; Label Studio refuses loopback addresses unless both are off.
    "SSRF_PROTECTION_ENABLED": "false",
    "ML_BLOCK_LOCAL_IP": "false",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "LOG_LEVEL": "INFO",
}
# Label Studio also reads settings without a prefix (HOST, PORT, DEBUG, ...), so it gets no other variables of ours.
_INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True)
class LabelStudioProcess:
    """A started `label-studio` in a process group of its own; it ends with this process, even when that is killed."""

    log: Path
    _process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def while_running(self, doing: str, say: Say) -> Iterator[None]:
        """Yield twice a second until the process ends, and report a line every few seconds.

        Raises `LabelStudioError` with the end of the log when it ends with an error or runs for `START_TIMEOUT_S`.
        """
        began = shown = time.monotonic()
        while self.running:
            now = time.monotonic()
            if now - began > START_TIMEOUT_S:
                raise LabelStudioError(f"{doing}: not done after {now - began:.0f} s.{self.said()}")
            if now - shown >= 5:
                shown = now
                say(f"{doing} ({now - began:.0f} s)")
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.5)
        if self._process.returncode:
            raise LabelStudioError(f"{doing}: it ended with exit status {self._process.returncode}.{self.said()}")

    def said(self, lines: int = 20) -> str:
        """Return the last `lines` of the log, with a heading that names the file."""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return f"\nThe end of {self.log}:\n" + "\n".join(tail)

    def end(self) -> None:
        """End the process and all its children; return when they have ended."""
        group = self._process.pid
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOP_TIMEOUT_S)
                if not _lives(group):
                    break
        assert self._process.stdin is not None
        self._process.stdin.close()


def launch(
    program: Path, *arguments: str, data_folder: Path, log: Path, settings: Mapping[str, str]
) -> LabelStudioProcess:
    """Start `program` with the demo's settings and `settings` (names without prefix).

    All output goes to `log`; the former log is kept as `.1`.

    Raises `LabelStudioError` when there is no such program.
    """
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {f"LABEL_STUDIO_{name}": value for name, value in {**_SETTINGS, **settings}.items()}
    environment["LABEL_STUDIO_BASE_DATA_DIR"] = str(data_folder)
    environment["PYTHONUNBUFFERED"] = "1"
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    if not os.access(program, os.X_OK):
        raise LabelStudioError(f"{program} does not exist or is not executable.")
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - the program of the environment that we made
            [sys.executable, "-I", str(END_WITH_PARENT), str(program), *arguments],
            stdin=subprocess.PIPE,  # open as long as this process runs
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that Ctrl-C reaches only this process, and the whole group can be ended
        )
    return LabelStudioProcess(log, process)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
