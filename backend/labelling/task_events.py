"""From a task with its annotations, as Label Studio's exports and API give it, to the journal's events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from taxonomist.backend.label_studio.requests import Task
from taxonomist.backend.label_studio.webhooks import annotation_saved
from taxonomist.storage.journal import Event, TaskSaved
from taxonomist.taxonomy.annotations import parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig


def task_events(
    project: str, task: object, config: LabelConfig, saved_at: datetime, position: int | None = None
) -> tuple[list[Event], list[str]]:
    """Return the events of one task with its annotations, and the problems: one line for each part that is not usable.

    `saved_at` replaces the time where the task or an annotation has none. `position` counts from 0 and identifies a
    task without an id in its problems.
    """
    name = f"task {task['id']}" if isinstance(task, Mapping) and task.get("id") is not None else "a task without id"
    name += "" if position is None or "without" not in name else f", number {position + 1} of the file"
    try:
        saved = Task.model_validate(task)
        uri = saved.image_uri(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return [], [f"{name}: not a task: {where or f'{task!s:.80}'}: {first['msg']}"]
    except BadRequestError as error:
        return [], [f"{name}: {error}"]
    assert isinstance(task, Mapping)
    events: list[Event] = [TaskSaved(project, str(saved.id), uri, saved.created_at or saved_at)]
    problems: list[str] = []
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        return events, [f"{name}: its annotations are not a list: {annotations!s:.80}"]
    for annotation in annotations:
        try:
            if not isinstance(annotation, Mapping):
                raise BadRequestError(f"not an annotation: {annotation!s:.80}")
            events.append(annotation_saved(project, {"task": saved.id, **_with_times(annotation, saved_at)}, uri))
            unknown_paths = parse_annotation(annotation, config, task_id=str(saved.id)).unknown
            problems += [f"{name}: {path}" for path in unknown_paths]
        except BadRequestError as error:
            problems.append(f"{name}: {error}")
    return events, problems


def _with_times(annotation: Mapping[str, Any], saved_at: datetime) -> Mapping[str, Any]:
    """Add missing times, so that a newer file replaces an older one. Files that were written by hand may have none."""
    created = annotation.get("created_at") or annotation.get("updated_at") or saved_at.isoformat()
    return {**annotation, "created_at": created, "updated_at": annotation.get("updated_at") or created}
