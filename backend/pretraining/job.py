"""A job of the worker that pre-trains a backbone or adopts an added one, in a process of its own.

The job table has its progress and outcome.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from taxonomist.backend.pretraining.adopt import adopt
from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import (
    PretrainRequest,
    StoppedError,
    StopSignal,
    adoption_ended,
    exclusive_pretraining,
    read_run,
    versions_waiting,
)
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.room import waits_for_room
from taxonomist.progress import StepProgress, rising
from taxonomist.storage.files import lacks_room
from taxonomist.taxonomy.errors import (
    ConfigError,
    DamagedError,
    NotFoundError,
    StorageError,
    TaxonomistError,
    TrainingError,
)

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.5


def run_job(services: Services, job_id: str, stop: StopSignal) -> bool:
    """Run the pre-training that the worker has started, and write its outcome to the job table.

    Return False when it found no room on the disk: the worker starts it again later.
    """
    try:
        _run_job(services, job_id, stop)
    except Exception as error:
        if not lacks_room(error):
            raise
        step = waits_for_room(error)
        log.error("job %s %s", job_id, step)
        with suppress(StorageError):
            services.jobs.progress(job_id, step, 0.0)
        return False
    return True


def _run_job(services: Services, job_id: str, stop: StopSignal) -> None:
    jobs = services.jobs
    try:
        with exclusive_pretraining(services.settings.home):
            if stop.orphaned:  # the next worker requeues the job
                return
            try:
                outcome = _outcome(services, job_id, stop)
            except StoppedError:
                log.info("job %s was stopped; it resumes at the next start", job_id)
                jobs.requeue(job_id)
            except TaxonomistError as error:
                if lacks_room(error):
                    raise
                log.warning("job %s: %s", job_id, error)
                jobs.finish(job_id, JobState.FAILED, str(error))
            except Exception as error:
                if lacks_room(error):
                    raise
                log.exception("job %s", job_id)
                jobs.finish(job_id, JobState.FAILED, f"{type(error).__name__}: see the worker's log")
            else:
                log.info("job %s is done: %s", job_id, outcome)
                jobs.finish(job_id, JobState.DONE, outcome)
    except ConfigError as error:  # a command has started a pre-training in the meantime
        log.info("job %s waits: %s", job_id, error)
        jobs.requeue(job_id)


def _outcome(services: Services, job_id: str, stop: StopSignal) -> str:
    """Return the outcome of the job's run, which may have ended before without room for the job table.

    Raises what `run` raises.
    """
    job = services.jobs.get(job_id)
    if job is not None and job.kind is JobKind.ADOPT:
        return _adopt_added(services, _progress(services, job_id), stop)
    ended = read_run(services.settings.home)
    if ended is not None and ended.job == job_id and not ended.unfinished:
        if ended.step == "failed":
            raise TrainingError(ended.outcome)
        return ended.outcome
    return run(services, PretrainRequest(job=job_id), _progress(services, job_id), stop)


def _adopt_added(services: Services, progress: StepProgress, stop: StopSignal) -> str:
    """Adopt each backbone that a person has added, or leave it a candidate. Return the outcomes in one line."""
    home, outcomes = services.settings.home, []
    while waiting := versions_waiting(home):
        version = waiting[0]
        try:
            outcomes.append(adopt(services, services.registry.get(BACKBONE, version), progress, stop))
        except (TrainingError, NotFoundError, DamagedError) as error:  # the others must not wait for it
            log.warning("backbone %s is not adopted: %s", version, error)
            outcomes.append(f"Backbone {version} is not adopted: {error}")
        adoption_ended(home, version)
    return " ".join(outcomes) or "No backbone waits for its adoption."


def _progress(services: Services, job_id: str) -> StepProgress:
    last = 0.0

    def report(step: str, share: float) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_S:
            last = time.monotonic()
            services.jobs.progress(job_id, step, share)

    return rising(report)
