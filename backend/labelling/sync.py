"""The pass over Label Studio's API for what its webhooks did not bring: it sends each once and never again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.protocol import label_config
from taxonomist.backend.labelling.decisions import decide_dirty
from taxonomist.backend.labelling.label_studio_export import export_events
from taxonomist.backend.services import Services
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, Event, TaskDeleted
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig

log = logging.getLogger(__name__)

CHUNK = 200


def open_label_studio(services: Services, project: str) -> LabelStudioClient:
    """A client for the Label Studio of a project. Raises `ConfigError` when address or token are unknown."""
    url, token = services.label_studio(project)
    if url is None or token is None:
        raise ConfigError(
            f"It is not known how to reach the Label Studio of project {project}.",
            hint=f"Run `taxonomist connect --url … --api-key … --project {project}`.",
        )
    return LabelStudioClient(url, token)


def sync(services: Services, project: str, progress: Callable[[str, float], None]) -> str:
    """Bring the journal to what Label Studio has, and decide the labels anew; returns what was found in one line.

    Annotations that the journal has and Label Studio does not were deleted while we were not told. One that was made
    after the pass began is left alone, since the pass may not have seen it.
    """
    begun = services.journal.clock(project)
    seen_tasks: set[str] = set()
    seen: set[str] = set()
    new = 0
    with open_label_studio(services, project) as client:
        about = client.project(project)
        services.projects.update(project, label_config=about.label_config)
        config = label_config(about.label_config)
        buffer: list[Event] = []

        def flush() -> None:
            nonlocal new
            new += services.journal.record(buffer)
            buffer.clear()

        for number, task in enumerate(client.tasks(project)):
            seen_tasks.add(str(task["id"]))
            buffer += _events(project, task, config)
            if len(buffer) >= CHUNK:
                flush()
                progress("tasks", 0.5 * min(1.0, number / max(about.tasks, 1)))
        for number, task in enumerate(client.export_annotations(project)):
            buffer += (events := _events(project, task, config))
            seen |= {event.annotation_id for event in events if isinstance(event, AnnotationSaved)}
            if len(buffer) >= CHUNK:
                flush()
                progress("annotations", 0.5 + 0.4 * min(1.0, number / max(about.annotated_tasks, 1)))
        flush()
    services.journal.fold()
    gone = _gone(services, project, begun, seen_tasks, seen)
    services.journal.record(gone)
    services.journal.fold()
    while decide_dirty(services, project, CHUNK):
        pass
    return f"{len(seen_tasks)} tasks, {len(seen)} annotations, {new} events were missed, {len(gone)} deletions"


def _events(project: str, task: Mapping[str, Any], config: LabelConfig) -> list[Event]:
    events, problems = export_events(project, task, config, datetime.now(UTC))
    for problem in problems:
        log.warning("project %s: %s", project, problem)
    return events


def _gone(services: Services, project: str, begun: datetime, tasks: set[str], annotations: set[str]) -> list[Event]:
    """Deletions that no webhook told: what lives in the journal, is older than the pass, and was not seen by it."""
    journal = services.journal
    gone: list[Event] = [
        TaskDeleted(project, task.task_id, begun)
        for task in journal.tasks(project)
        if task.task_id not in tasks and task.created_at < begun
    ]
    gone += [
        AnnotationDeleted(project, record.annotation_id, begun)
        for record in journal.annotations(project)
        if record.annotation_id not in annotations and record.task_id in tasks and record.updated_at < begun
    ]
    return gone
