"""A thread in which a worker runs jobs: it takes them from the job table, oldest first, one at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from taxonomist.backend.repeated_error import RepeatedError
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.backend.state.room import WaitingForRoom, waits_for_room
from taxonomist.backend.worker.job_runner import run
from taxonomist.backend.worker.progress_watch import ProgressWatch
from taxonomist.inference.embedder import give_way
from taxonomist.progress import StepProgress, rising
from taxonomist.storage.files import disk_error, lacks_room
from taxonomist.storage.set_aside import ItemKind, describe
from taxonomist.taxonomy.errors import StorageError, TaxonomistError

log = logging.getLogger(__name__)

POLL_S = 0.25  # a new job waits half of this on average
STORE_PROGRESS_S = 0.5
KINDS = frozenset(JobKind) - {JobKind.PRETRAIN, JobKind.ADOPT}  # these take hours, so they have a process of their own
QUICK = frozenset({JobKind.BULK})  # a person waits for these, and a training may run for long: they have a thread


@dataclass(frozen=True)
class _End:
    """How a job ended; one that waits again found no room. `unexpected` is the reason that only the log has besides,
    None for another end."""

    job: Job
    state: JobState
    outcome: str
    unexpected: str | None


class JobLoop:
    """Runs jobs of some kinds until `stop` is set.

    The thread is a daemon: a stop does not wait for the end of a job. Such a job is put back by `requeue_running`.
    """

    def __init__(
        self,
        services: Services,
        stop: threading.Event,
        watch: ProgressWatch | None = None,
        kinds: Collection[JobKind] = KINDS,
    ) -> None:
        self._services = services
        self._stop = stop
        self._watch = watch or ProgressWatch()
        self._kinds = kinds
        self._taking = threading.Lock()
        self._running: Job | None = None
        self._ended: _End | None = None  # that is not stored yet
        self._room = WaitingForRoom(services.settings.home)
        self._failing = RepeatedError(log, "jobs")

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run_until_stopped, name="jobs", daemon=True).start()

    def requeue_running(self) -> None:
        """Let the job that is running wait again, without counting this attempt. Call it after `stop` was set."""
        with self._taking:
            running = self._running
        if running is not None:
            self._services.jobs.requeue(running.id)

    def run_next(self) -> bool:
        """Run the oldest waiting job in this thread; return False when none waits, or `stop` is set."""
        self._store_end()
        with self._taking:  # so that no job begins between a stop and `requeue_running`
            job = None if self._stop.is_set() else self._services.jobs.start_next(self._kinds, self._room.jobs())
            self._running = job
        if job is None:
            return False
        self.run_job(job)
        self._running = None
        return True

    def run_job(self, job: Job) -> None:
        """Run a job that the table has as running, and store how it ended."""
        log.info("job %s (%s, project %s) begins: %s", job.id, job.kind, job.project, job.reason)
        state, outcome, reason = JobState.FAILED, "", None
        self._watch.moved(_name(job))
        try:
            outcome = run(self._services, job.kind, job.project, self._progress(job))
            state = JobState.DONE
            log.info("job %s (%s, project %s) is done: %s", job.id, job.kind, job.project, outcome)
        except Exception as error:  # a job must not end the worker
            if lacks_room(error):
                state, outcome = JobState.WAITING, waits_for_room(error)
                log.error("job %s (%s, project %s) %s", job.id, job.kind, job.project, outcome)
            elif isinstance(explained := disk_error(error) or error, TaxonomistError):
                outcome = str(explained)
                log.warning("job %s (%s, project %s): %s", job.id, job.kind, job.project, explained)
            else:
                outcome = f"{type(error).__name__}: see the worker's log"
                log.exception("job %s (%s, project %s)", job.id, job.kind, job.project)
                reason = describe(error)
        finally:
            self._watch.ended(_name(job))
        if state is JobState.WAITING:
            self._room.add(job.kind, job.project)
        else:
            self._room.remove(job.kind, job.project)
        if state is JobState.FAILED and self._stop.is_set():  # jobs fail while the interpreter shuts down
            self._services.jobs.requeue(job.id)
        else:
            self._ended = _End(job, state, outcome, reason)
            self._store_end()

    def _store_end(self) -> None:
        """Store how the last job ended. When that fails, as on a full disk, the next call does it."""
        if (end := self._ended) is not None and end.state is JobState.WAITING:
            self._services.jobs.progress(end.job.id, end.outcome, 0.0)
            self._services.jobs.requeue(end.job.id)
            self._ended = None
        elif end is not None:
            self._services.jobs.finish(end.job.id, end.state, end.outcome)
            set_aside = self._services.journal.set_aside
            if end.unexpected is not None:
                set_aside.add(ItemKind.JOB, end.job.project, end.job.kind, end.unexpected)
            else:  # also of a job that says what a person has to do, such as `connect`: it works
                set_aside.clear(ItemKind.JOB, end.job.project, [end.job.kind])
            self._ended = None

    def _run_until_stopped(self) -> None:
        give_way()
        while not self._stop.is_set():
            if not self._run_next():
                self._stop.wait(POLL_S)

    def _run_next(self) -> bool:
        """Return what `run_next` returns; False where it fails, which is logged."""
        try:
            has_run = self.run_next()
        except StorageError as error:  # a full disk passes; the job table has what waits
            self._failing.met(str(error))
            return False
        except Exception as error:
            self._failing.met(describe(error), error)
            return False
        self._failing.ended()
        return has_run

    def _progress(self, job: Job) -> StepProgress:
        stored_at = 0.0

        def store(step: str, share: float) -> None:
            nonlocal stored_at
            self._watch.moved(_name(job))
            if time.monotonic() - stored_at > STORE_PROGRESS_S or share >= 1:
                stored_at = time.monotonic()
                self._services.jobs.progress(job.id, step, share)

        return rising(store)


def _name(job: Job) -> str:
    return f"job {job.id} ({job.kind}, project {job.project})"
