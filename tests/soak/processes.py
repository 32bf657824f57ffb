"""The processes of our server, and who kills them."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.backend_process import BackendProcess

KINDS = {  # what the command line of a process has, and how often it is killed
    "server": 1,
    "web": 3,
    "supervisor": 2,
    "worker": 4,
    "child": 2,
    "group": 1,
}
RECOVERY_S = 60.0
STOPPED_S = (2.0, 2.0, 12.0, 70.0)  # the supervisor replaces a worker that is silent for 60 s


def processes(master: int) -> dict[str, list[int]]:
    """Return the ids of the processes below the server's master process, by kind."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    found["server"] = [master]
    below = [master]
    while below:
        parent = below.pop()
        for child in (pid for pid, above in parents.items() if above == parent):
            below.append(child)
            found[_kind(child)].append(child)
    return found


def _kind(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"taxonomist.backend.web.server" in words:
            return "web"
        if b"taxonomist.backend.worker.supervisor" in words:
            return "supervisor"
        if b"worker" in words:
            return "worker"
    return "child"


class Killer:
    """Kills or stops one process after the other, and restarts the server where it ended, as a service manager does.

    Others are killed while a supervisor or a worker is stopped. A stopped web process answers no request: it is
    continued soon.
    """

    def __init__(self, backend: BackendProcess, seed: int) -> None:
        self.backend = backend
        self.kills: Counter[str] = Counter()
        self.findings: list[str] = []
        self._stopped: dict[int, float] = {}  # until when, by the monotonic clock
        self._random = random.Random(seed)

    def strike(self) -> None:
        """Kill a process of a kind that there is now."""
        assert self.backend.process is not None
        self.wake()
        there = processes(self.backend.process.pid)
        kinds = [kind for kind in KINDS if there[kind] or kind == "group"]
        (kind,) = self._random.choices(kinds, [KINDS[kind] for kind in kinds])
        if kind == "group":
            self.backend.kill()
        else:
            pid = self._random.choice(there[kind])
            with suppress(ProcessLookupError):
                if kind != "server" and self._random.random() < 0.2:
                    self.kills[f"{kind} stopped for a while"] += 1
                    os.kill(pid, signal.SIGSTOP)
                    self._stopped[pid] = time.monotonic() + self._random.choice(STOPPED_S)
                    if kind == "web":
                        time.sleep(self._random.uniform(1, 3))
                        self.wake(pid)
                    return
                os.kill(pid, signal.SIGKILL)
        self.kills[kind] += 1
        if kind in {"server", "group"}:
            self.backend.process.wait(timeout=30)

    def wake(self, *pids: int, every: bool = False) -> None:
        """Let processes go on: these, and those whose time has come, or every stopped one."""
        now = time.monotonic()
        for pid in [pid for pid, until in self._stopped.items() if every or until <= now or pid in pids]:
            del self._stopped[pid]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start the server again where it has ended, and wait until it answers."""
        assert self.backend.process is not None
        if self.backend.process.poll() is None:
            return
        left = {pid for pids in _group(self.backend.process.pid).values() for pid in pids}
        try:
            self.backend.start()
        except AssertionError as error:
            self.findings.append(f"the server did not come back: {error}")
            raise
        until = time.monotonic() + RECOVERY_S
        while (remaining := {pid for pid in left if lives(pid)} - self._stopped.keys()) and time.monotonic() < until:
            self.wake()
            time.sleep(0.2)
        if remaining:
            shown = [_description(pid) for pid in remaining]
            self.findings.append(f"processes live on without their server: {shown}")


def lives(pid: int) -> bool:
    """Return whether a process runs or is stopped: not one that has ended and that its parent has not asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _description(pid: int) -> str:
    """Return what is known of a living process."""
    with suppress(OSError):
        folder = Path(f"/proc/{pid}")
        status = (folder / "status").read_text().splitlines()[:10]
        return f"{pid} {_kind(pid)} {(folder / 'cmdline').read_bytes()!r} {status} {(folder / 'wchan').read_text()}"
    return f"{pid} has ended meanwhile"


def _group(group: int) -> dict[str, list[int]]:
    """Return the living processes of a process group, by kind."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and fields[0] != "Z":
                    found[_kind(int(entry.name))].append(int(entry.name))
    return found
