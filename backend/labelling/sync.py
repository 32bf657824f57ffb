"""The pass over Label Studio's API for events whose webhook did not arrive: Label Studio sends each only once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, Event, TaskDeleted
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config

log = logging.getLogger(__name__)

CHUNK = 200  # events that are recorded together


def sync(services: Services, project: str, progress: StepProgress) -> str:
    """Record in the journal what Label Studio has, decide the labels of what changed, and return a summary in one line.

    Annotations that are in the journal and not in Label Studio were deleted without a webhook that arrived. Annotations
    made after the pass began are kept, since the pass may not have read them.
    """
    begun = services.journal.clock(project)
    task_ids: set[str] = set()
    annotation_ids: set[str] = set()
    new = 0
    with services.open_label_studio(project) as client:
        server_project = client.project(project)
        services.projects.update(project, label_config=server_project.label_config)
        config = parse_label_config(server_project.label_config)
        buffer: list[Event] = []

        def flush() -> None:
            nonlocal new
            new += services.journal.record(buffer)
            buffer.clear()

        for number, task in enumerate(client.tasks(project)):
            task_ids.add(str(task["id"]))
            buffer += _events(project, task, config)
            if len(buffer) >= CHUNK:
                flush()
                progress("tasks", 0.5 * min(1.0, number / max(server_project.tasks, 1)))
        for number, task in enumerate(client.export_annotations(project)):
            buffer += (events := _events(project, task, config))
            annotation_ids |= {event.annotation_id for event in events if isinstance(event, AnnotationSaved)}
            if len(buffer) >= CHUNK:
                flush()
                progress("annotations", 0.5 + 0.4 * min(1.0, number / max(server_project.annotated_tasks, 1)))
        flush()
    services.journal.fold()
    deletions = _deletions(services, project, begun, task_ids, annotation_ids)
    services.journal.record(deletions)
    decide_all_dirty(services, project)
    missed = f"{new} missed events, {len(deletions)} missed deletions"
    return f"{len(task_ids)} tasks, {len(annotation_ids)} annotations, {missed}"


def _events(project: str, task: Mapping[str, Any], config: LabelConfig) -> list[Event]:
    found = task_events(project, task, config, datetime.now(UTC))
    for problem in found.problems:
        log.warning("project %s: %s", project, problem)
    return found.events


def _deletions(
    services: Services, project: str, begun: datetime, task_ids: set[str], annotation_ids: set[str]
) -> list[Event]:
    """Return deletions that no webhook reported: what is in the journal, is older than the pass and was not in it."""
    journal = services.journal
    deletions: list[Event] = [
        TaskDeleted(project, task.task_id, begun)
        for task in journal.tasks(project)
        if task.task_id not in task_ids and task.created_at < begun
    ]
    deletions += [
        AnnotationDeleted(project, record.annotation_id, begun)
        for record in journal.annotations(project)
        if record.annotation_id not in annotation_ids and record.task_id in task_ids and record.updated_at < begun
    ]
    return deletions
