"""The worker: decides labels from journal events, schedules trainings, and runs jobs.

Once a second its pulse reads the state on disk (events that are not folded, images whose label is to be decided again)
and acts. Its decisions follow from that state alone, so the next worker continues where a killed one was. What fails
costs its own project and step only, see `Isolation`. Jobs run in threads of their own, see `job_loop`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from taxonomist.backend.labelling.decisions import decide_anew, decide_dirty
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.pretraining.schedule import PretrainingPlanner
from taxonomist.backend.retraining.finish_promotion import finish_promotions
from taxonomist.backend.retraining.repaired_catalogue import (
    begin_new_journal,
    compare_with_journal,
    differs_from_journal,
)
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.backend.state.project_use import working_on
from taxonomist.backend.worker.job_loop import KINDS, QUICK, JobLoop
from taxonomist.backend.worker.progress_watch import ProgressWatch
from taxonomist.backend.worker.repaired_records import RecordKeeper
from taxonomist.backend.worker.retraining_schedule import TrainingPlanner, projects_of_label_studio
from taxonomist.backend.worker.supervisor import end_with_parent, parent_of
from taxonomist.backend.worker.trying_again import try_again
from taxonomist.storage.files import storage_errors
from taxonomist.storage.home.damaged_files import move_aside_if_damaged
from taxonomist.storage.home.privacy import repair_modes
from taxonomist.storage.set_aside import ItemKind
from taxonomist.storage.sqlite import damage_note
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NewerFormatError, StorageError

log = logging.getLogger(__name__)

PULSE = "the pulse"
PULSE_S = 1.0
SWITCH_S = 0.0005  # Python's is ten times that: the pulse, beside a training, holds the journal, which webhooks need
LONG_PULSE_S = 5.0
EXIT_STALLED = 70
IMAGES_PER_PULSE = 500
LAST_PULSE_S = 5.0  # how long a stop waits for the last pulse; the supervisor gives the worker 20 s in all
LOCK_TIMEOUT_S = 10.0  # for a predecessor that is just ending
ORPHAN_S = 5.0  # what the supervisor has to end its worker once the server is gone; it may be stopped
SIGNAL_POLL_S = 0.1
KEEP_EVENTS_DAYS = 90.0  # folded events that are older are deleted
REBUILT = ("catalog.sqlite", "jobs.sqlite", "suggestions.sqlite")  # made anew when they are damaged
OLD_QUEUE = ("queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm")  # a second queue of earlier releases


class Worker:
    """One process that runs jobs. Only one runs on a home folder at a time."""

    def __init__(self, services: Services, *, parent: int | None = None, beat: int | None = None) -> None:
        """Make a worker that ends with its `parent`, and writes to the file `beat` while it makes progress."""
        self.services = services
        self._parent = parent
        self._beat = beat
        self._server = parent_of(parent) if parent is not None else None
        self._served_at = time.monotonic()  # when the server was seen last
        self._reported = -PULSE_S
        self._failure: Exception | None = None  # with which the worker ends
        self._files: dict[str, int | None] = {}  # of the databases that are made anew, see `_number_of`
        self._stop = threading.Event()
        self._watch = ProgressWatch()
        self._jobs = JobLoop(services, self._stop, self._watch, KINDS - QUICK)
        self._quick_jobs = JobLoop(services, self._stop, self._watch, QUICK)
        self._announced: dict[str, str] = {}
        self._predictor = Predictor(services)
        self._records = RecordKeeper(services)
        self._planner = TrainingPlanner(services)
        self._pretraining_planner = PretrainingPlanner(services)
        self._pretraining = PretrainingProcess(services)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; a job that is running then waits for the next worker.

        Raises `ConfigError` when another worker serves this home folder.
        """
        if self._parent is not None:
            end_with_parent()
        sys.setswitchinterval(SWITCH_S)
        home = self.services.home
        lock = FileLock(home / "worker.lock")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            raise ConfigError(
                f"Another worker already serves {home}.",
                hint="`taxonomist serve` starts one by itself; use `serve --no-worker` to run it apart.",
            ) from None
        with lock, _signals() as received:
            log.info("worker %d serves %s", os.getpid(), home)
            if self._parent is None:  # else the server does it
                threading.Thread(target=repair_modes, args=(home,), name="modes", daemon=True).start()
            pulse = threading.Thread(target=self._pulse_until_stopped, name="pulse", daemon=True)
            pulse.start()
            try:
                while not received and self._failure is None:
                    self._report_progress()
                    time.sleep(SIGNAL_POLL_S)
                if self._failure is not None:
                    raise self._failure
            finally:
                self._stop.set()
                pulse.join(timeout=LAST_PULSE_S)
                with suppress(StorageError):  # the next start counts it as an attempt
                    self._jobs.requeue_running()
                    self._quick_jobs.requeue_running()
                self._pretraining.stop()

    def pulse(self) -> None:
        """Read the state on disk once and act on it; public so that a test can do what a second would."""
        services, alone = self.services, self.services.isolation.of
        failures = services.isolation.failures
        with alone("", "new events"):
            services.journal.fold()
        with alone("", "project records"):
            for project, error in services.projects.damaged().items():
                if isinstance(error, DamagedError) and not isinstance(error, NewerFormatError):
                    with alone(project, "repairs of the record"):
                        self._records.repair(project)
            for project in self._records.missing():
                with alone(project, "repairs of the record"):
                    self._records.restore(project)
            for record in services.projects:
                with alone(record.project, "copies of the record"):
                    self._records.keep(record)
        with alone("", "decisions"):
            known = {record.project for record in services.projects}
            for project in sorted(known | set(services.journal.dirty_projects())):
                self._decide(project)
        with alone("", "trainings"):
            self._planner.plan()
        with alone("", "the schedule of pre-trainings"):
            self._pretraining_planner.plan()
        with alone("", "announcements"):
            for record in projects_of_label_studio(services):
                self._announce(record)
        with alone("", "pre-trainings"):
            self._pretraining.poll()
        if services.isolation.failures == failures:  # else nothing is done, as on a full disk
            services.isolation.end_round()
            heartbeat.beat(services.settings.home)

    def _decide(self, project: str) -> None:
        self._pulse_moved()
        with self.services.isolation.of(project, "labels"), working_on(self.services.home, project):
            # First: removed images leave without a taxonomy, too.
            decide_dirty(self.services, project, IMAGES_PER_PULSE)
            decide_anew(self.services, project, self._pulse_moved)

    def _pulse_moved(self) -> None:
        self._watch.moved(PULSE)

    def _announce(self, record: ProjectRecord) -> None:
        """Enqueue a push where Label Studio does not know the served version; once per version and process, so the
        next start tries again."""
        project = record.project
        with self.services.isolation.of(project, "announcements"):
            version = self._predictor.model_version(project)
            if record.ml_backend is not None and version not in {record.announced, self._announced.get(project)}:
                self._announced[project] = version
                if not self.services.jobs.gave_up(JobKind.PUSH, project):
                    self.services.jobs.enqueue(JobKind.PUSH, project, f"{version} is served now")

    def _begin(self) -> None:
        """Go on where the last worker was. What fails is tried by the next one."""
        services, alone = self.services, self.services.isolation.of
        set_aside = services.journal.set_aside
        for name in REBUILT:
            move_aside_if_damaged(services.home / name)
        different: list[str] = []
        with alone("", "repairs"):
            begin_new_journal(services)
            for project in services.journal.withdrawal.projects():
                self._pulse_moved()
                with alone(project, "repairs"):
                    if differs_from_journal(services, project):
                        different.append(project)
            for project in different:  # later, since what is kept of one project's files is kept of the other's, too
                self._pulse_moved()
                with alone(project, "repairs"):
                    compare_with_journal(services, project)
        with alone("", "what was set aside"):
            unreadable = dict(services.jobs.unreadable())
            known = [item.key for item in set_aside.items("", ItemKind.JOB) if item.key not in frozenset(JobKind)]
            set_aside.clear(ItemKind.JOB, "", [key for key in known if key not in unreadable])
            for id, reason in unreadable.items():
                set_aside.add(ItemKind.JOB, "", id, reason)
            # Before the jobs below are set aside, which the next start tries again.
            try_again(services, set_aside.retry(at_start=True))
        for job in services.jobs.requeue_interrupted(KINDS):
            if job.state is JobState.WAITING:
                log.warning("job %s (%s, project %s) was interrupted and runs again", job.id, job.kind, job.project)
            else:
                log.error("job %s (%s, project %s): %s", job.id, job.kind, job.project, job.outcome)
                with alone("", "what was set aside"):
                    set_aside.add(ItemKind.JOB, job.project, job.kind, job.outcome)
        with alone("", "clean-ups"):
            services.jobs.delete_old()
            services.journal.compact(KEEP_EVENTS_DAYS)
            for name in OLD_QUEUE:
                (services.settings.home / name).unlink(missing_ok=True)
        with alone("", "promotions"):
            finish_promotions(services, self._pulse_moved)
        with alone("", "the first backbone"):
            if services.registry.champion(BACKBONE) is None:
                services.jobs.enqueue(JobKind.BACKBONE, reason="there is no backbone yet")
        with alone("", "first passes over Label Studio"):
            for record in projects_of_label_studio(services):
                if not services.jobs.gave_up(JobKind.SYNC, record.project):
                    services.jobs.enqueue(JobKind.SYNC, record.project, "the worker started")
        services.isolation.end_beginning()
        for name in REBUILT:
            with storage_errors(services.home):
                damage_note(services.home / name).unlink(missing_ok=True)
            self._files[name] = _number_of(services.home / name)

    def _damage(self) -> DamagedError | None:
        """Return the error with which the worker ends where a process found a database damaged, or another file is in
        its place: the next one makes it anew while nothing else here uses it."""
        for name in REBUILT:
            path = self.services.home / name
            number, before = _number_of(path), self._files.get(name)
            if damage_note(path).exists() or (before is not None and number != before):
                return DamagedError(
                    f"{path} is damaged, gone, or another one.", hint="The next start of the worker puts it right."
                )
            self._files[name] = number
        return None

    def _pulse_until_stopped(self) -> None:
        self._pulse_moved()
        try:
            self._begin()
        except Exception as error:  # the next worker begins anew
            self._failure = error
            return
        self._jobs.start()
        self._quick_jobs.start()
        self._watch.ended(PULSE)
        while not self._stop.wait(PULSE_S):
            if (damage := self._damage()) is not None:
                self._failure = damage
                return
            self._pulse_moved()
            with self.services.isolation.of("", "everything"):
                self.pulse()
            self._watch.ended(PULSE)

    def _report_progress(self) -> None:
        """Tell the supervisor that there is progress, in the main thread, which waits for nothing.

        A worker whose parent is gone ends, since the next one needs its lock; so does one whose server is gone while
        the supervisor is stopped, and one that makes no progress: its job counts an attempt, and the next worker goes
        on.
        """
        if self._parent is not None and os.getppid() != self._parent:
            log.warning("the process that started this worker is gone; the worker ends")
            os._exit(0)
        now = time.monotonic()
        if now - self._reported < PULSE_S:
            return
        self._reported = now
        if self._server is None or self._parent is None or parent_of(self._parent) == self._server:
            self._served_at = now
        elif now - self._served_at > ORPHAN_S:
            log.warning("the server is gone, and the supervisor does not end this worker; the worker ends")
            os._exit(0)
        if stalled := self._watch.stalled():
            log.error("%s makes no progress; this worker ends, and another one goes on", stalled)
            os._exit(EXIT_STALLED)
        if self._watch.runs_for(PULSE) > LONG_PULSE_S and self._watch.idle_s(PULSE) < LONG_PULSE_S:
            with suppress(StorageError):  # many labels are decided at once
                heartbeat.beat(self.services.settings.home)
        if self._beat is not None:
            with suppress(OSError):  # a supervisor that does not read
                os.write(self._beat, b".")


def _number_of(path: Path) -> int | None:
    """Return the number of a file (its inode), None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list. They do not set an event: its lock may be held by the code that a handler
    interrupts."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
