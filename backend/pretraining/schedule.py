"""The schedule of pre-trainings (TAXONOMIST_PRETRAIN_SCHEDULE)."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from cronsim import CronSim
from pydantic import BaseModel

from taxonomist.backend.pretraining.state import pretraining_folder, read_run, read_state, write_state
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind

log = logging.getLogger(__name__)

_SUMMER_TIME = timedelta(hours=2)  # local time goes back by an hour when it ends; nothing is handled twice then


class ScheduleState(BaseModel, frozen=True):
    """The schedule, and the time (local) up to which its due times are handled."""

    schedule: str
    handled: datetime


class PretrainingPlanner:
    """Enqueues a pre-training at the times of the setting `pretrain_schedule`.

    Times that passed while no worker ran are made up for by one pre-training. Times before the schedule was set are
    not. A stored time in the future, from a clock that was ahead, counts as now.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._state: ScheduleState | None = None

    def plan(self, now: datetime | None = None) -> None:
        """Enqueue the pre-training that is due, if there are enough new images and none is running."""
        schedule = self._services.settings.pretrain_schedule
        if schedule is None:
            return
        now = now or datetime.now()
        path = pretraining_folder(self._services.settings.home) / "plan.json"
        state = self._state or read_state(path, ScheduleState)
        if state is not None and state.schedule == schedule and state.handled > now + _SUMMER_TIME:
            log.warning("the schedule was handled up to %s, which is in the future: it goes on from now", state.handled)
            state = None
        if state is None or state.schedule != schedule:
            state = ScheduleState(schedule=schedule, handled=now)
            write_state(path, state)
        self._state = state
        due = next(CronSim(schedule, now, reverse=True))
        if due <= state.handled:
            return
        self._enqueue(due)
        self._state = ScheduleState(schedule=schedule, handled=due)
        write_state(path, self._state)

    def _enqueue(self, due: datetime) -> None:
        services = self._services
        new = count_new_images(services)
        if services.jobs.running(JobKind.PRETRAIN):
            log.info("the pre-training due at %s is skipped: the last one still runs", due)
        elif new < services.settings.pretrain_min_new:
            log.info("the pre-training due at %s is skipped: only %d images are new", due, new)
        else:
            services.jobs.enqueue(JobKind.PRETRAIN, reason=f"due at {due:%Y-%m-%d %H:%M}, {new} images are new")


def count_new_images(services: Services) -> int:
    """Return by how many images the catalogue has grown since the last pre-training."""
    last = read_run(services.settings.home)
    return max(0, services.catalog.count() - (last.seen if last else 0))
