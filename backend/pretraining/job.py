"""A pre-training job of the worker, run in a process of its own; the job table has its progress and outcome."""

from __future__ import annotations

import logging
import time

from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import PretrainRequest, StoppedError, StopSignal, exclusive_pretraining
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobState
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.5


def run_job(services: Services, job_id: str, stop: StopSignal) -> None:
    """Run the pre-training that the worker has started, and write its outcome to the job table."""
    jobs = services.jobs
    try:
        with exclusive_pretraining(services.settings.home):
            if stop.orphaned:  # the next worker requeues the job
                return
            try:
                outcome = run(services, PretrainRequest(), _progress(services, job_id), stop)
            except StoppedError:
                log.info("job %s was stopped; it resumes at the next start", job_id)
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
    except ConfigError as error:  # a command has started a pre-training in the meantime
        log.info("job %s waits: %s", job_id, error)
        jobs.requeue(job_id)


def _progress(services: Services, job_id: str) -> StepProgress:
    last = 0.0

    def report(step: str, share: float) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_S:
            last = time.monotonic()
            services.jobs.progress(job_id, step, share)

    return report
