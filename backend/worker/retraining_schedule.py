"""When a project is trained, and when its annotations are fetched from Label Studio again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import takewhile

from taxonomist.backend.connection.panel_renewal import must_renew
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.errors import HeldError
from taxonomist.taxonomy.numbers import is_number

log = logging.getLogger(__name__)

RENEW_EVERY_S = 6 * 3600.0  # between two looks at the key of a look-alike panel, and two trials to renew it
MAX_PAUSE_S = 3600.0  # between two trainings that fail while nothing changes
_FAILURES = 10  # of one project in a row that make the pause longer


def projects_of_label_studio(services: Services) -> list[ProjectRecord]:
    """Return the known projects whose Label Studio can be called; those of imported catalogues have none."""
    settings = services.settings
    return [
        record
        for record in services.projects
        if is_number(record.project)
        and (record.label_studio_url or settings.label_studio_url)
        and (record.api_key or settings.label_studio_api_key)
    ]


@dataclass(frozen=True)
class _Hold:
    """Why a project waits for a person: it holds as long as the record and the last event stay the same."""

    record: ProjectRecord
    last_event: float
    reason: HeldError


@dataclass(frozen=True)
class _Failure:
    """A training that failed, with the project's record when that was seen."""

    job: str
    record: ProjectRecord

    def is_of_other_rules(self, record: ProjectRecord) -> bool:
        """Return whether a person has changed what may have been the cause."""
        then = self.record
        return (record.label_config, record.label_decisions, record.settings) != (
            then.label_config,
            then.label_decisions,
            then.settings,
        )


class TrainingPlanner:
    """Enqueues a training after `retrain_every` newly accepted labels, or after `retrain_after` seconds of quiet.

    The labels count as new until a training has learned them. One that failed is enqueued again after `retrain_after`
    seconds, after twice as long each time while nothing changes, and at once when the labelling config, the decisions
    on labels or the settings of the project change.

    Where labels name nodes that the taxonomy has no longer, it waits for a person's decision.

    Enqueues a pass over Label Studio's API every `sync_every` seconds, too, fills tasks that were late, and renews the
    keys of look-alike panels, whatever `sync_every` is.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._held: dict[str, _Hold] = {}
        self._failed: dict[str, _Failure] = {}
        self._looked_at_keys: dict[str, tuple[float, str]] = {}  # when, and the labelling config
        self._synced_at: dict[str, float] = {}  # by `time.monotonic()`: a clock that is put right changes nothing

    def plan(self) -> None:
        """Enqueue the trainings and passes that are due."""
        for record in self._services.projects:
            with self._services.isolation.of(record.project, "trainings"):
                self._plan_training(record)
        for record in projects_of_label_studio(self._services):
            with self._services.isolation.of(record.project, "passes over Label Studio"):
                self._plan_passes(record.project)
            with self._services.isolation.of(record.project, "the key of the look-alike panel"):
                self._plan_renewal(record)

    def _plan_training(self, record: ProjectRecord) -> None:
        settings, now = self._services.settings, time.time()
        project, changed = record.project, record.changed_labels
        if not changed:
            return
        last_event = self._services.journal.last_event_at(project) or 0.0
        if changed >= settings.retrain_every:
            reason = f"{changed} labels are new"
        elif now - last_event >= settings.retrain_after:
            reason = f"{changed} labels are new and there are no new annotations"
        else:
            return
        if not self._is_under_way(record, now) and not self._is_held(record, last_event):
            self._services.jobs.enqueue(JobKind.TRAIN, project, reason)

    def _plan_passes(self, project: str) -> None:
        settings, uptime = self._services.settings, time.monotonic()
        if self._services.unfilled.due(project):
            self._services.jobs.enqueue(JobKind.FILL, project, "tasks wait for a suggestion")
        since = uptime - self._synced_at.setdefault(project, uptime)
        if settings.sync_every and since >= settings.sync_every:
            self._synced_at[project] = uptime
            self._services.jobs.enqueue(JobKind.SYNC, project, "schedule")

    def _plan_renewal(self, record: ProjectRecord) -> None:
        uptime = time.monotonic()
        looked_at, config = self._looked_at_keys.get(record.project, (uptime, None))
        if uptime - looked_at < RENEW_EVERY_S and config == record.label_config:
            return
        self._looked_at_keys[record.project] = (uptime, record.label_config)
        if must_renew(self._services, record) and not self._services.jobs.gave_up(JobKind.RENEW, record.project):
            self._services.jobs.enqueue(JobKind.RENEW, record.project, "the key of the look-alike panel ends soon")

    def _is_under_way(self, record: ProjectRecord, now: float) -> bool:
        """Return whether a training of the project waits or runs, or one failed a short while ago."""
        jobs = self._services.jobs.latest(record.project, JobKind.TRAIN, _FAILURES)
        failures = [*takewhile(lambda job: job.state is JobState.FAILED, jobs)]
        if not failures:
            return bool(jobs) and jobs[0].state is not JobState.DONE
        last = failures[0]
        failure = self._failed.get(record.project)
        if failure is None or failure.job != last.id:
            failure = self._failed[record.project] = _Failure(last.id, record)
        if failure.is_of_other_rules(record):
            return False
        pause = self._services.settings.retrain_after
        if record.labels_version == failure.record.labels_version:
            pause = max(pause, min(pause * 2 ** (len(failures) - 1), MAX_PAUSE_S))
        return 0 <= now - (last.ended_at or 0.0) < pause  # a time in the future is not believed

    def _is_held(self, record: ProjectRecord, last_event: float) -> bool:
        """Return whether the project waits for a person; the log says so once.

        The labels are looked at only after something changed, so that a project that is held costs nothing.
        """
        project = record.project
        known = self._held.get(project)
        if known is not None and (known.record, known.last_event) == (record, last_event):
            return True
        held = training_hold(self._services, project)
        if held is None:
            self._held.pop(project, None)
            return False
        if known is None or str(known.reason) != str(held):
            log.warning("%s", held)
        # Labels that still wait to be decided may change it without a new event.
        at = -1.0 if project in self._services.journal.dirty_projects() else last_event
        self._held[project] = _Hold(record, at, held)
        return True
