"""What the journal has of tasks and annotations that are read again: compared by content, not by times alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taxonomist.storage.journal import AnnotationRecord, AnnotationSaved, Event, Journal, TaskRecord, TaskSaved, finite

AnyTask = TaskRecord | TaskSaved
AnyAnnotation = AnnotationRecord | AnnotationSaved
_ANSWER = ("result", "was_cancelled")
CONTENT = (*_ANSWER, "ground_truth", "lead_time", "reviews")


@dataclass
class KeptContent:
    """The live tasks and annotations of one source, by id."""

    tasks: dict[str, AnyTask] = field(default_factory=dict)
    annotations: dict[str, AnyAnnotation] = field(default_factory=dict)


def read_kept(journal: Journal, project: str, source: str, events: Sequence[Event]) -> KeptContent:
    """Return what the journal has under the ids of the events, as of the last fold."""
    task_ids = {event.task_id for event in events if isinstance(event, TaskSaved)}
    ids = {event.annotation_id for event in events if isinstance(event, AnnotationSaved)}
    return KeptContent(
        {record.task_id: record for record in journal.tasks(project, source=source, ids=task_ids)},
        {record.annotation_id: record for record in journal.annotations(project, source=source, ids=ids)},
    )


def same_task(event: TaskSaved, kept: AnyTask | None) -> bool:
    """Return whether the task is kept with this content."""
    return (
        kept is not None
        and (event.uri, event.images, event.created_at) == (kept.uri, kept.images, kept.created_at)
        and (event.data == kept.data or finite(event.data) == kept.data)
    )


def same_annotation(event: AnnotationSaved, kept: AnyAnnotation | None) -> bool:
    """Return whether the annotation is kept at the same task and image, with this content."""
    return (
        kept is not None
        and (event.task_id, event.uri, event.created_at) == (kept.task_id, kept.uri, kept.created_at)
        and same_content(event.data, kept.data)
    )


def same_content(read: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Return whether two forms of an annotation say the same.

    What Label Studio forgot, the annotator of a deleted account, is no difference: the journal keeps it.
    """
    return _same(read, kept, CONTENT) and person(read) in {None, person(kept)}


def same_answer(read: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Return whether two forms of an annotation give the same answer of the same annotator."""
    return _same(read, kept, _ANSWER) and person(read) == person(kept)


def person(annotation: Mapping[str, Any]) -> str | None:
    """Return the annotator of an annotation's JSON, None for one whose account is deleted."""
    found = annotation.get("completed_by")
    if isinstance(found, Mapping):
        found = found.get("id") or found.get("email")
    return None if found is None else str(found)


def _same(read: Mapping[str, Any], kept: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(
        (read.get(name) or None) == (kept.get(name) or None) or (finite(read.get(name)) or None) == kept.get(name)
        for name in names
    )
