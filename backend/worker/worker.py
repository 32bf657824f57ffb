"""The worker: turns journal events into labels, decides when to train, and runs the jobs.

Once a second a pulse looks at what is on disk (events not folded, images whose label is to be decided anew, jobs that
wait) and acts. What it decides follows from that state alone, so a worker that was killed goes on where the state
is, and nothing has to be remembered in memory.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from filelock import FileLock, Timeout

from taxonomist.backend.labelling.decisions import decide_anew, decide_dirty
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.pretraining.schedule import PretrainingPlanner
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.backend.worker.job_runner import Progress, run
from taxonomist.backend.worker.queue import open_queue
from taxonomist.taxonomy.errors import ConfigError, StorageError, TaxonomistError

log = logging.getLogger(__name__)

PULSE_S = 1.0
IMAGES_A_PULSE = 500
PULSE_END_S = 5.0  # for the last pulse; the supervisor gives us 20 in all
IN_QUEUE = frozenset(JobKind) - {JobKind.PRETRAIN}  # a pre-training, which takes hours, has a process of its own
KEEP_EVENTS_DAYS = 90.0  # what was folded longer ago is of no use any more


class Worker:
    """One process that serves the queue. Only one runs on a home folder at a time."""

    def __init__(self, services: Services, *, parent: int | None = None) -> None:
        self.services = services
        self.queue = open_queue(services.settings.home)
        self._run = self.queue.task(name="run")(self._run_one)
        self._parent = parent
        self._stop = threading.Event()
        self._handed_over: set[str] = set()
        self._complaints: dict[str, str] = {}
        self._announced: dict[str, str] = {}
        self._predictor = Predictor(services)
        self._planner = TrainingPlanner(services)
        self._pretraining_planner = PretrainingPlanner(services)
        self._pretraining = PretrainingProcess(services)
        self._running: str | None = None

    def run(self) -> None:
        """Work until stopped by a signal. Raises `ConfigError` when another worker has this home folder."""
        lock = FileLock(self.services.settings.home / "worker.lock")
        try:
            lock.acquire(timeout=10)  # a predecessor that is just ending gets the time to end
        except Timeout:
            raise ConfigError(
                f"Another worker already serves {self.services.settings.home}.",
                hint="`taxonomist serve` starts one by itself; use `serve --no-worker` to run it apart.",
            ) from None
        with lock:
            for job in self.services.jobs.requeue_interrupted(IN_QUEUE):
                log.warning("job %s (%s, project %s) was interrupted and runs again", job.id, job.kind, job.project)
            log.info("worker %d serves %s", os.getpid(), self.services.settings.home)
            self._ask_what_a_start_needs()
            pulse = threading.Thread(target=self._pulse_for_ever, name="pulse", daemon=True)
            pulse.start()
            try:
                self.queue.create_consumer(workers=1, periodic=False, initial_delay=0.05, max_delay=0.5).run()
            finally:
                self._stop.set()
                pulse.join(timeout=PULSE_END_S)
                if self._running is not None:
                    self.services.jobs.requeue(self._running)
                self._pretraining.stop()

    def pulse(self) -> None:
        """One look at the state on disk; public so that a test can do what a second would."""
        self.services.journal.fold()
        known = {record.project for record in self.services.projects}
        for project in known | set(self.services.journal.dirty_projects()):
            self._decide(project)
        self._planner.plan()
        self._pretraining_planner.plan()
        self._announce()
        self._hand_over()
        self._pretraining.look()
        heartbeat.beat(self.services.settings.home)

    def _decide(self, project: str) -> None:
        try:
            decide_anew(self.services, project)
            decide_dirty(self.services, project, IMAGES_A_PULSE)
        except StorageError:
            raise
        except TaxonomistError as error:  # a config without taxonomy: the images go on waiting
            if self._complaints.get(project) != str(error):  # once, not once a second
                log.warning("project %s: labels wait to be decided: %s", project, error)
            self._complaints[project] = str(error)
        else:
            self._complaints.pop(project, None)

    def _announce(self) -> None:
        """Have Label Studio told of a version that it has not seen, each once a process: the next start tries again."""
        for project in projects_of_label_studio(self.services):
            record = self.services.projects.get(project)
            version = self._predictor.model_version(project)
            if record.ml_backend is not None and version not in {record.announced, self._announced.get(project)}:
                self._announced[project] = version
                self.services.jobs.enqueue(JobKind.PUSH, project, f"{version} is served now")

    def _ask_what_a_start_needs(self) -> None:
        jobs = self.services.jobs
        jobs.delete_old()
        self.services.journal.compact(KEEP_EVENTS_DAYS)
        if self.services.registry.champion(BACKBONE) is None:
            jobs.enqueue(JobKind.BACKBONE, reason="there is no backbone yet")
        for project in projects_of_label_studio(self.services):
            jobs.enqueue(JobKind.SYNC, project, "the worker started")

    def _hand_over(self) -> None:
        """Put waiting jobs into the queue, each once a process; a message that comes twice finds its job taken."""
        waiting = [job.id for job in self.services.jobs.waiting() if job.kind in IN_QUEUE]
        for job_id in waiting:
            if job_id not in self._handed_over:
                self._run(job_id)
        self._handed_over = set(waiting)

    def _run_one(self, job_id: str) -> None:
        job = self.services.jobs.start(job_id)
        if job is None:
            return
        self._running = job.id
        log.info("job %s (%s, project %s) begins: %s", job.id, job.kind, job.project, job.reason)
        state, outcome = JobState.FAILED, ""
        try:
            outcome = run(self.services, job.kind, job.project, self._progress(job))
            state = JobState.DONE
            log.info("job %s (%s, project %s) is done: %s", job.id, job.kind, job.project, outcome)
        except TaxonomistError as error:
            outcome = str(error)
            log.warning("job %s (%s, project %s): %s", job.id, job.kind, job.project, error)
        except Exception as error:  # a job must not end the worker; the log has all of it
            outcome = f"{type(error).__name__}: see the worker's log"
            log.exception("job %s (%s, project %s)", job.id, job.kind, job.project)
        if state is JobState.FAILED and self._stop.is_set():  # as everything does while Python takes itself apart
            self.services.jobs.requeue(job.id)
        else:
            self.services.jobs.finish(job.id, state, outcome)
        self._running = None

    def _progress(self, job: Job) -> Progress:
        last = 0.0

        def note(step: str, done: float) -> None:
            nonlocal last
            if time.monotonic() - last > 0.5 or done >= 1:
                last = time.monotonic()
                self.services.jobs.progress(job.id, step, done)

        return note

    def _pulse_for_ever(self) -> None:
        while not self._stop.wait(PULSE_S):
            if self._parent is not None and os.getppid() != self._parent:
                log.warning("the process that started this worker is gone; the worker ends")
                os._exit(0)
            try:
                self.pulse()
            except StorageError as error:  # a full disk passes; the state is still there at the next pulse
                log.error("%s", error)
            except Exception:
                log.exception("pulse")


def projects_of_label_studio(services: Services) -> list[str]:
    """The known projects whose Label Studio can be called; those of imported catalogues have none."""
    return [
        record.project
        for record in services.projects
        if record.project.isdecimal() and all(services.label_studio(record.project))
    ]


class TrainingPlanner:
    """Decides when a project is trained: after so many newly accepted labels, or after so long a quiet."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._synced: dict[str, float] = {}

    def plan(self) -> None:
        """Ask for the trainings and sync passes that are due."""
        settings, now = self._services.settings, time.time()
        for record in self._services.projects:
            project, changed = record.project, record.changed_labels
            if not changed:
                continue
            last = self._services.journal.last_event_at(project) or 0.0
            if changed >= settings.retrain_every:
                self._ask(project, f"{changed} labels are new")
            elif now - last >= settings.retrain_after:
                self._ask(project, f"{changed} labels are new and nobody annotates now")
        if settings.sync_every:
            for project in projects_of_label_studio(self._services):
                if now - self._synced.setdefault(project, now) >= settings.sync_every:
                    self._synced[project] = now
                    self._services.jobs.enqueue(JobKind.SYNC, project, "schedule")

    def _ask(self, project: str, reason: str) -> None:
        self._services.jobs.enqueue(JobKind.TRAIN, project, reason)
        self._services.projects.update(project, changed_labels=0)
