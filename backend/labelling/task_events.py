"""From a task with its annotations, as Label Studio's exports and API give it, to the journal's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from taxonomist.backend.label_studio.requests import Task
from taxonomist.backend.label_studio.webhooks import annotation_saved, task_saved
from taxonomist.backend.labelling.import_result import UNKNOWN_NAME, LeftOut
from taxonomist.storage.journal import Event
from taxonomist.taxonomy.annotations import UnknownPath, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.names import shorten

UNREADABLE = "annotation that cannot be read"
UNREADABLE_REGION = "region that cannot be read"
FOREIGN_CONTROL = "label of a control that the labelling config does not have"


@dataclass(frozen=True)
class StatedTimes:
    """Which times of a task or an annotation were stated; another one is that of the file."""

    created: bool
    updated: bool


@dataclass
class TaskEvents:
    """The events of one task, and what of it is not usable. `name` names the task in problems.

    The first event is the task, the others are its annotations; `stated` says for each which times were stated.
    """

    name: str
    events: list[Event] = field(default_factory=list)
    stated: list[StatedTimes] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unknown: list[UnknownPath] = field(default_factory=list)

    def leave_out(self, reason: str, problem: str) -> None:
        """Add a part of the task that is not usable."""
        self.left_out.append(LeftOut(reason, f"{self.name}: {problem}"))

    @property
    def unusable(self) -> list[LeftOut]:
        """Each part that is not usable and each unknown path."""
        return self.left_out + [LeftOut(UNKNOWN_NAME, f"{self.name}: {path}") for path in self.unknown]


def task_events(
    project: str,
    source: str,
    task: object,
    config: LabelConfig,
    saved_at: datetime,
    *,
    position: int | None = None,
    read_after: int | None = None,
) -> TaskEvents:
    """Return the events of one task with its annotations, and what of it is not usable.

    `saved_at` replaces the time where the task or an annotation has none. `position` counts from 0 and identifies a
    task without an id in its problems. `read_after` is passed on to the events.
    """
    number = "" if position is None else f", number {position + 1} of the file"
    id = task.get("id") if isinstance(task, Mapping) else None
    name = f"a task without id{number}" if id is None else f"task {shorten(id)}"
    found = TaskEvents(name)
    try:
        saved = Task.model_validate(task)
        event = task_saved(project, source, saved, config, saved_at, read_after)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found.leave_out("task that cannot be read", f"not a task: {shorten(where or task)}: {first['msg']}")
        return found
    except BadRequestError as error:
        found.left_out.append(LeftOut("task without an image", str(error)))
        return found
    assert isinstance(task, Mapping)
    found.events.append(event)
    found.stated.append(StatedTimes(saved.created_at is not None, saved.updated_at is not None))
    if task.get("result"):  # written by hand
        found.leave_out(UNREADABLE, "its result is outside of an annotation; write it as one of its annotations")
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        found.leave_out(UNREADABLE, f"its annotations are not a list: {shorten(annotations)}")
        return found
    inherited = {"task": saved.id} | ({"project": task["project"]} if task.get("project") is not None else {})
    for annotation in annotations:
        try:
            if not isinstance(annotation, Mapping):
                raise BadRequestError(f"not an annotation: {shorten(annotation)}")
            if annotation.get("result") is None and not annotation.get("was_cancelled"):
                raise BadRequestError(f"Annotation {shorten(annotation.get('id'))} has no result.")
            parsed = parse_annotation(annotation, config, task_id=str(saved.id))
            whole = {**inherited, **_with_times(annotation, saved_at)}
            found.events.append(annotation_saved(project, source, whole, event.uri, read_after))
            found.stated.append(_stated(annotation))
            found.unknown += parsed.unknown
            for region in parsed.unreadable:
                found.leave_out(UNREADABLE_REGION, f"annotation {shorten(parsed.id)}: {region}")
            for control in parsed.foreign_controls:
                known = ", ".join(tree.control for tree in config.trees)
                name = f'annotation {shorten(parsed.id)} is of the control "{shorten(control)}"'
                problem = f"{name}; the labelling config has {known}"
                found.leave_out(FOREIGN_CONTROL, problem)
        except BadRequestError as error:
            found.leave_out(UNREADABLE, str(error))
    return found


def _stated(annotation: Mapping[str, Any]) -> StatedTimes:
    created, updated = bool(annotation.get("created_at")), bool(annotation.get("updated_at"))
    return StatedTimes(created, updated or created)


def _with_times(annotation: Mapping[str, Any], saved_at: datetime) -> Mapping[str, Any]:
    """Add missing times, so that a newer file replaces an older one. Files that were written by hand may have none."""
    created = annotation.get("created_at") or annotation.get("updated_at") or saved_at.isoformat()
    return {**annotation, "created_at": created, "updated_at": annotation.get("updated_at") or created}
