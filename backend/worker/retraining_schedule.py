"""When a project is trained, and when its annotations are fetched from Label Studio again."""

from __future__ import annotations

import logging
import time

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind

log = logging.getLogger(__name__)


def projects_of_label_studio(services: Services) -> list[str]:
    """Return the known projects whose Label Studio can be called; those of imported catalogues have none."""
    return [
        record.project
        for record in services.projects
        if record.project.isdecimal() and all(services.label_studio(record.project))
    ]


class TrainingPlanner:
    """Enqueues a training after `retrain_every` newly accepted labels, or after `retrain_after` seconds of quiet.

    Where labels name nodes that the taxonomy has no longer, it waits for a person's decision.

    Enqueues a pass over Label Studio's API every `sync_every` seconds, too, and fills tasks that were late.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._held: dict[str, str] = {}  # why trainings wait for a person, as it was logged
        self._synced_at: dict[str, float] = {}  # by `time.monotonic()`: a clock that is put right changes nothing

    def plan(self) -> None:
        """Enqueue the trainings and passes that are due."""
        settings, now, uptime = self._services.settings, time.time(), time.monotonic()
        for record in self._services.projects:
            project, changed = record.project, record.changed_labels
            if not changed:
                continue
            last_event = self._services.journal.last_event_at(project) or 0.0
            if changed >= settings.retrain_every:
                self._enqueue_training(project, f"{changed} labels are new")
            elif now - last_event >= settings.retrain_after:
                self._enqueue_training(project, f"{changed} labels are new and there are no new annotations")
        for project in projects_of_label_studio(self._services):
            if self._services.unfilled.due(project):
                self._services.jobs.enqueue(JobKind.FILL, project, "tasks wait for a suggestion")
            since = uptime - self._synced_at.setdefault(project, uptime)
            if settings.sync_every and since >= settings.sync_every:
                self._synced_at[project] = uptime
                self._services.jobs.enqueue(JobKind.SYNC, project, "schedule")

    def _enqueue_training(self, project: str, reason: str) -> None:
        if held := training_hold(self._services, project):
            if self._held.get(project) != str(held):  # once, not once a second
                log.warning("%s", held)
            self._held[project] = str(held)
            return
        self._held.pop(project, None)
        self._services.jobs.enqueue(JobKind.TRAIN, project, reason)
        self._services.projects.update(project, changed_labels=0)
