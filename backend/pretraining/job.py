"""The pre-training that a worker has started: run in a process of its own, noted in the job table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import Asked, Stop, StoppedError, only_one
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobState
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError

log = logging.getLogger(__name__)

NOTE_EVERY_S = 0.5


def run_job(services: Services, job_id: str, stop: Stop) -> None:
    """Run the pre-training that the worker has taken, and note in the job table how it ended."""
    jobs = services.jobs
    try:
        with only_one(services.settings.home):
            if stop.orphaned:  # whoever works now takes the job back
                return
            try:
                outcome = run(services, Asked(), _progress(services, job_id), stop)
            except StoppedError:
                log.info("job %s was stopped, it goes on at the next start", job_id)
                jobs.requeue(job_id)
            except TaxonomistError as error:
                log.warning("job %s: %s", job_id, error)
                jobs.finish(job_id, JobState.FAILED, str(error))
            except Exception as error:
                log.exception("job %s", job_id)
                jobs.finish(job_id, JobState.FAILED, f"{type(error).__name__}: see the worker's log")
            else:
                log.info("job %s is done: %s", job_id, outcome)
                jobs.finish(job_id, JobState.DONE, outcome)
    except ConfigError as error:  # somebody pre-trains by hand since just now
        log.info("job %s waits: %s", job_id, error)
        jobs.requeue(job_id)


def _progress(services: Services, job_id: str) -> Callable[[str, float], None]:
    last = 0.0

    def note(step: str, share: float) -> None:
        nonlocal last
        if time.monotonic() - last > NOTE_EVERY_S:
            last = time.monotonic()
            services.jobs.progress(job_id, step, share)

    return note
