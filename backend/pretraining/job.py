"""The process in which a worker's pre-training runs, and which is gone when its worker is."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from taxonomist.backend.pretraining.run import Asked, run
from taxonomist.backend.pretraining.state import StoppedError, only_one
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobState
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError

log = logging.getLogger(__name__)

NOTE_EVERY_S = 0.5


class Stop:
    """Whether to end: told so by a signal, or since the process that started this one is gone.

    While the block runs a signal only notes that; a second one ends the process at once.
    """

    def __init__(self, parent: int | None = None) -> None:
        self._parent = parent
        self._told = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._told or self.orphaned

    @property
    def orphaned(self) -> bool:
        """Whether the parent is gone."""
        return self._parent is not None and os.getppid() != self._parent

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._told = True
        signal.signal(number, signal.SIG_DFL)


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
