"""The worker's side of a pre-training: it runs in a child process, so that the worker continues with other jobs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from taxonomist.backend.extras import require
from taxonomist.backend.pretraining.state import EXIT_NO_ROOM, is_running
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.room import WaitingForRoom
from taxonomist.storage.set_aside import ItemKind
from taxonomist.taxonomy.errors import ConfigError

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 12.0  # of the 20 seconds that the supervisor gives the worker


class PretrainingProcess:
    """At most one child process. Its state is in the job table and the lock, so a crash loses nothing."""

    def __init__(self, services: Services, *, niceness: int | None = None) -> None:
        """Start children with `niceness` added to that of this process; None is their own default."""
        self._services = services
        self._niceness = niceness
        self._child: subprocess.Popen[bytes] | None = None
        self._job = ""  # the child's
        self._without_room: str | None = None  # the job that found no room, until it waits in the table again
        self._room = WaitingForRoom(services.settings.home)

    def poll(self) -> None:
        """Start the child when a pre-training waits and none runs, neither a child nor a command; log when it ended."""
        if self._child is not None:
            if self._child.poll() is None:
                return
            log.info("the pre-training's process ended with %d", self._child.returncode)
            if self._child.returncode == EXIT_NO_ROOM:
                self._without_room = self._job
                self._room.add(JobKind.PRETRAIN, "")
            else:
                self._room.remove(JobKind.PRETRAIN, "")
            self._child = None
        jobs = self._services.jobs
        if self._without_room is not None:
            jobs.requeue(self._without_room)
            self._without_room = None
        if self._room.jobs():
            return
        waiting = next((job for job in jobs.waiting() if job.kind is JobKind.PRETRAIN), None)
        if not (waiting or jobs.running(JobKind.PRETRAIN)) or is_running(self._services.settings.home):
            return
        for interrupted in jobs.requeue_interrupted({JobKind.PRETRAIN}):
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
                self._child, self._job = subprocess.Popen(self._command(job.id)), job.id  # noqa: S603
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

    def _command(self, job_id: str) -> list[str]:
        home, level = str(self._services.settings.home), self._services.settings.log_level
        options = ["--home", home, "--log-level", level, "--job", job_id, "--parent", str(os.getpid())]
        if self._niceness is not None:
            options += ["--niceness", str(self._niceness)]
        return [sys.executable, "-P", "-m", "taxonomist.backend.pretraining", *options]
