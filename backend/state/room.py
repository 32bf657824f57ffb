"""Jobs that found no room on the disk: they wait, and are tried again after a while, or when there is room."""

from __future__ import annotations

import shutil
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.files import disk_error
from taxonomist.storage.set_aside import describe

PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
ROOM_BYTES = 16 * 1024 * 1024  # that became free, so that a job is tried at once


@dataclass(frozen=True)
class _Rest:
    """How long a job waits: `pause` seconds, to `until`, or until more than `free` bytes are."""

    pause: float
    until: float
    free: int


class WaitingForRoom:
    """Says which jobs of one process wait for room, each time for longer. Other jobs go on: they may need less."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._rests: dict[tuple[JobKind, str], _Rest] = {}

    def add(self, kind: JobKind, project: str) -> None:
        """Let a job wait that found no room."""
        before = self._rests.get((kind, project))
        pause = PAUSE_S if before is None else min(2 * before.pause, LONGEST_PAUSE_S)
        self._rests[kind, project] = _Rest(pause, time.monotonic() + pause, self._free())

    def remove(self, kind: JobKind, project: str) -> None:
        """Forget a job that found room."""
        self._rests.pop((kind, project), None)

    def jobs(self) -> AbstractSet[tuple[JobKind, str]]:
        """Return kind and project of the jobs that wait now."""
        if not self._rests:
            return frozenset()
        now, free = time.monotonic(), self._free()
        return {key for key, rest in self._rests.items() if now < rest.until and free < rest.free + ROOM_BYTES}

    def _free(self) -> int:
        return shutil.disk_usage(self._home).free


def waits_for_room(error: Exception) -> str:
    """Return the step of a job that found no room."""
    return f"waits for room on the disk: {describe(disk_error(error) or error)}"
