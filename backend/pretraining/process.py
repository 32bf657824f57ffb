"""The worker's side of a pre-training: it runs in a child process, so that the worker continues with other jobs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from taxonomist.backend.extras import require
from taxonomist.backend.pretraining.state import EXIT_NO_ROOM, is_running
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.room import WaitingForRoom
from taxonomist.storage.set_aside import ItemKind
from taxonomist.taxonomy.errors import ConfigError

log = logging.getLogger(__name__)

KINDS = (JobKind.PRETRAIN, JobKind.ADOPT)
IDLE_S = 900.0  # without a step of the job while its processes compute nothing
LOOK_S = 10.0
_COMPUTED_S = 1.0  # of processor time: a thread that only waits uses less in all of `IDLE_S`
STOP_TIMEOUT_S = 12.0  # of the 20 seconds that the supervisor gives the worker


class PretrainingProcess:
    """At most one child process, for a pre-training or the adoption of a backbone that a person has added.

    Its state is in the job table and the lock, so a crash loses nothing.
    """

    def __init__(self, services: Services, *, niceness: int | None = None) -> None:
        """Start children with `niceness` added to that of this process; None is their own default."""
        self._services = services
        self._niceness = niceness
        self._child: subprocess.Popen[bytes] | None = None
        self._job, self._kind = "", JobKind.PRETRAIN  # the child's
        self._signs = _Signs(0)
        self._without_room: str | None = None  # the job that found no room, until it waits in the table again
        self._room = WaitingForRoom(services.settings.home)

    def poll(self) -> None:
        """Start the child when a job waits and none runs, neither a child nor a command; log when it ended."""
        if self._child is not None:
            if self._child.poll() is None:
                self._end_if_hung(self._child)
                return
            log.info("the pre-training's process ended with %d", self._child.returncode)
            if self._child.returncode == EXIT_NO_ROOM:
                self._without_room = self._job
                self._room.add(self._kind, "")
            else:
                self._room.remove(self._kind, "")
            self._child = None
        jobs = self._services.jobs
        if self._without_room is not None:
            jobs.requeue(self._without_room)
            self._without_room = None
        if self._room.jobs():
            return
        waiting = next((job for job in jobs.waiting() if job.kind in KINDS), None)
        if not (waiting or any(map(jobs.running, KINDS))) or is_running(self._services.settings.home):
            return
        for interrupted in jobs.requeue_interrupted(KINDS):
            if interrupted.state is JobState.WAITING:
                log.warning("job %s (%s) was interrupted and resumes", interrupted.id, interrupted.kind)
                waiting = waiting or interrupted
            else:
                log.error("job %s (%s): %s", interrupted.id, interrupted.kind, interrupted.outcome)
                self._services.journal.set_aside.add(ItemKind.JOB, "", interrupted.kind, interrupted.outcome)
        if waiting and (job := jobs.start(waiting.id)):
            log.info("job %s (%s) begins: %s", job.id, job.kind, job.reason)
            try:
                require("train")
                self._child = subprocess.Popen(self._command(job.id))  # noqa: S603
                self._job, self._kind = job.id, job.kind
                self._signs = _Signs(self._child.pid)
            except ConfigError as error:
                log.warning("job %s (%s): %s", job.id, job.kind, error)
                jobs.finish(job.id, JobState.FAILED, str(error))
            except OSError as error:
                jobs.finish(job.id, JobState.FAILED, f"Its process cannot be started: {error.strerror}.")

    def stop(self) -> None:
        """Ask the child to write a checkpoint and end. If it takes too long, it ends by itself after this process."""
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the pre-training did not end within %g s", STOP_TIMEOUT_S)

    def _end_if_hung(self, child: subprocess.Popen[bytes]) -> None:
        """End a child that is stopped or hangs: the attempt counts, and the next one resumes."""
        if self._signs.look_due():
            job = self._services.jobs.get(self._job)
            silent = self._signs.silent_s((job.step, job.done) if job else None)
            if silent >= IDLE_S:
                log.error("the pre-training makes no progress for %.0f s; its process is ended", silent)
                child.kill()

    def _command(self, job_id: str) -> list[str]:
        home, level = str(self._services.settings.home), self._services.settings.log_level
        options = ["--home", home, "--log-level", level, "--job", job_id, "--parent", str(os.getpid())]
        if self._niceness is not None:
            options += ["--niceness", str(self._niceness)]
        return [sys.executable, "-P", "-m", "taxonomist.backend.pretraining", *options]


class _Signs:
    """When the processes of a job made a step or computed something last."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at = self._looked = time.monotonic()
        self._step: object = None
        self._computed = 0.0

    def look_due(self) -> bool:
        """Return whether the last look was `LOOK_S` seconds ago."""
        return time.monotonic() - self._looked >= LOOK_S

    def silent_s(self, step: object) -> float:
        """Return for how many seconds there was no sign; `step` is what the job says of itself now."""
        self._looked = time.monotonic()
        computed = _processor_s(self._pid)
        if step != self._step or abs(computed - self._computed) >= _COMPUTED_S:  # less when a process of it has ended
            self._step, self._computed, self._at = step, computed, self._looked
        return self._looked - self._at


def _processor_s(pid: int) -> float:
    """Return the processor time in seconds of a process and of those that it started. Only Linux tells; elsewhere the
    result is a time that goes on."""
    if sys.platform != "linux":
        return time.monotonic()
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    with suppress(OSError, ValueError, IndexError):  # it has just ended
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total = sum(map(int, fields[11:15])) / ticks  # its own, and that of children which have ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(_processor_s(int(child)) for child in children.read_text(encoding="ascii").split())
    return total
