"""Whether the ids of a file's annotations count within the file, or anew within each task.

Label Studio's ids never repeat. Files that were written by hand often number the annotations of each task from 1; there
an id means an annotation only together with its task. The file as a whole decides, since no single task shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from taxonomist.backend.labelling.exports.forms import as_task, digest
from taxonomist.backend.labelling.exports.identity import differ
from taxonomist.backend.labelling.kept_content import AnyAnnotation, person
from taxonomist.backend.labelling.task_events import TaskEvents
from taxonomist.storage.journal import AnnotationSaved, Event
from taxonomist.taxonomy.errors import BadRequestError

_TIME = TypeAdapter(datetime)


def count_within_tasks(items: Iterable[object]) -> bool:
    """Return whether some annotation id stands under two tasks for two annotations.

    One annotation may stand under two tasks: it was moved between two exports that make one file, or a task was
    exported twice under two ids. Such an id is still that of one annotation.
    """
    first: dict[str, _Seen] = {}
    for item in items:
        for id, seen in _annotations(item):
            known = first.setdefault(id, seen)
            if known is not seen and _are_two(known, seen):
                return True
    return False


def within_tasks(found: TaskEvents, kept: Mapping[str, AnyAnnotation]) -> TaskEvents:
    """Return the events of a task with annotation ids that count within the task.

    An annotation that is kept under its own id for this task keeps it: it came before the source was known to count so.
    """
    events: list[Event] = []
    for event in found.events:
        if isinstance(event, AnnotationSaved):
            known = kept.get(event.annotation_id)
            if known is None or known.task_id != event.task_id:
                id = _within_task(event)
                event = replace(event, annotation_id=id, data={**event.data, "id": id})
        events.append(event)
    return replace(found, events=events)


def _within_task(event: AnnotationSaved) -> str:
    """Return the id with that of the task before it. Derived ids have it already."""
    start = f"{event.task_id}/"
    return event.annotation_id if event.annotation_id.startswith(start) else start + event.annotation_id


class _Seen(NamedTuple):
    """What tells an annotation from another one with its id."""

    task_id: str
    data: str
    unique_id: object
    created: datetime | None
    updated: datetime | None
    answer: str


def _annotations(item: object) -> Iterable[tuple[str, _Seen]]:
    try:
        task = as_task(item)
    except BadRequestError:
        return
    if not isinstance(task, Mapping) or not isinstance(task.get("annotations"), list):
        return
    data = digest(task.get("data"))
    for found in task["annotations"]:
        if isinstance(found, Mapping):
            created, updated = _time(found.get("created_at")), _time(found.get("updated_at"))
            answer = digest(
                [found.get("result"), bool(found.get("was_cancelled")), person(found), found.get("created_username")]
            )
            yield (
                str(found.get("id")),
                _Seen(str(task.get("id")), data, found.get("unique_id"), created, updated, answer),
            )


def _are_two(first: _Seen, other: _Seen) -> bool:
    if first.task_id == other.task_id:
        return False
    if first.unique_id is not None and other.unique_id is not None:
        return first.unique_id != other.unique_id
    if first.created is not None and other.created is not None:
        if differ(first.created, other.created):
            return True
        if first.updated != other.updated:  # one annotation, before and after a change
            return False
    return first.data != other.data or first.answer != other.answer


def _time(value: Any) -> datetime | None:
    try:
        time = _TIME.validate_python(value)
    except ValidationError:
        return None
    return time if time.tzinfo is None else time.replace(tzinfo=None) - (time.utcoffset() or timedelta())
