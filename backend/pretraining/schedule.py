"""When the next pre-training is due."""

from __future__ import annotations

import logging
from datetime import datetime

from cronsim import CronSim
from pydantic import BaseModel

from taxonomist.backend.pretraining.state import folder_of, read_run, read_state, write_state
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind

log = logging.getLogger(__name__)


class Plan(BaseModel, frozen=True):
    """Up to when (local time) the due times of a schedule have been seen to."""

    schedule: str
    handled: datetime


class PretrainingPlanner:
    """Asks for a pre-training at the times of the setting `pretrain_schedule`. A time that passed while nobody looked
    is made up for, once; those before the schedule was set are not."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._plan: Plan | None = None

    def plan(self, now: datetime | None = None) -> None:
        """Ask for the pre-training that is due, if there are enough new pictures and none is under way."""
        schedule = self._services.settings.pretrain_schedule
        if schedule is None:
            return
        now = now or datetime.now()
        path = folder_of(self._services.settings.home) / "plan.json"
        plan = self._plan or read_state(path, Plan)
        if plan is None or plan.schedule != schedule:
            plan = Plan(schedule=schedule, handled=now)
            write_state(path, plan)
        self._plan = plan
        due = next(CronSim(schedule, now, reverse=True))
        if due <= plan.handled:
            return
        self._ask(due)
        self._plan = Plan(schedule=schedule, handled=due)
        write_state(path, self._plan)

    def _ask(self, due: datetime) -> None:
        services = self._services
        new = new_pictures(services)
        if services.jobs.running(JobKind.PRETRAIN):
            log.info("the pre-training of %s is left out: the last one still runs", due)
        elif new < services.settings.pretrain_min_new:
            log.info("the pre-training of %s is left out: %d pictures are new", due, new)
        else:
            services.jobs.enqueue(JobKind.PRETRAIN, reason=f"due at {due:%Y-%m-%d %H:%M}, {new} pictures are new")


def new_pictures(services: Services) -> int:
    """Pictures of the catalogue that no backbone was pre-trained on."""
    last = read_run(services.settings.home)
    return max(0, services.catalog.count() - (last.seen if last else 0))
