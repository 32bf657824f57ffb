"""What an export says about a task that the journal does not have yet, and what of it is not taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from taxonomist.backend.labelling.exports.identity import Match, is_other_annotation, is_other_task, matches_of
from taxonomist.backend.labelling.exports.repeated_annotations import IN_TWO_FORMS, OLDER_ANNOTATION
from taxonomist.backend.labelling.import_result import LeftOut
from taxonomist.backend.labelling.kept_content import (
    AnyAnnotation,
    AnyTask,
    KeptContent,
    same_annotation,
    same_content,
    same_task,
)
from taxonomist.backend.labelling.task_events import StatedTimes, TaskEvents
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationSaved, Event, TaskSaved

OTHER_TASK = "task whose id stands for another task of the source"
OTHER_ANNOTATION = "annotation whose id stands for another annotation of the source"
KEEP_BOTH = "--source NAME keeps both"
OLDER_TASK = "task that is kept in a newer form"
TASK_IN_TWO_FORMS = "task that the file has in two forms"


@dataclass
class TaskDifference:
    """What becomes of a task of an export, compared with what is kept under its ids.

    `events` are to be recorded; `taken` are the annotations that count now, recorded before or now. `images` are the
    ids of the task's images, none for a task that is not taken. `agrees` says whether its ids stand for what they
    stood for: None for a task that is new.
    """

    agrees: bool | None = None
    events: list[Event] = field(default_factory=list)
    taken: list[AnnotationSaved] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass
class TakenIds:
    """Hashes of the ids of tasks and annotations that an import has taken so far."""

    tasks: set[int] = field(default_factory=set)
    annotations: set[int] = field(default_factory=set)
    has_corrected_task: bool = False  # its annotations that came before have the former image


def compare(found: TaskEvents, kept: KeptContent, position: int, taken: TakenIds) -> TaskDifference:
    """Return what becomes of a task; `kept` then has it, so that a file that names it twice is compared with itself.

    What is kept follows the export, as it follows Label Studio in a pass: `position` is the `read_after` of the events.
    Only what the export states to be older than the kept form stays as it is. Of two forms in one file, whose ids are
    in `taken` then, the first counts unless the second is stated to be newer. So the same file again changes nothing.
    """
    difference = TaskDifference()
    if not found.events:
        return difference
    task = found.events[0]
    assert isinstance(task, TaskSaved)
    known = kept.tasks.get(task.task_id)
    if known is not None and is_other_task(task, found.stated[0], known, matches_of(found, kept)):
        difference.agrees = False
        problem = f"{found.name}: its image is {task.uri}, and that of the kept one is {known.uri}; {KEEP_BOTH}"
        difference.left_out.append(LeftOut(OTHER_TASK, problem))
        return difference
    place = _take_task(task, found, known, difference, position, taken)
    kept.tasks[task.task_id] = place
    difference.images = {image_id(uri) for uri in (place.uri, *place.images.values())}
    difference.agrees = None if known is None else True
    for event, stated in zip(found.events[1:], found.stated[1:], strict=True):
        assert isinstance(event, AnnotationSaved)
        event = replace(event, uri=place.uri)
        kept_form = kept.annotations.get(event.annotation_id)
        match = Match(event, stated, kept_form) if kept_form is not None else None
        if match is not None and is_other_annotation(match, same_task=known is not None):
            difference.agrees = difference.agrees or False
            problem = f"annotation {event.annotation_id} is kept for task {match.kept.task_id} in another form"
            difference.left_out.append(LeftOut(OTHER_ANNOTATION, f"{found.name}: {problem}; {KEEP_BOTH}"))
        else:
            kept.annotations[event.annotation_id] = _take_annotation(
                event, match, found, difference, position, taken.annotations
            )
    return difference


def _take_task(
    task: TaskSaved,
    found: TaskEvents,
    known: AnyTask | None,
    difference: TaskDifference,
    position: int,
    ids: TakenIds,
) -> AnyTask:
    """Return the form of the task that counts."""
    taken, key = ids.tasks, hash(task.task_id)
    if known is None:
        taken.add(key)
        difference.events.append(task)
        return task
    stated = found.stated[0]
    if not stated.created:
        task = replace(task, created_at=known.created_at)
    if same_task(task, known):
        taken.add(key)
        return known
    if key in taken:
        if not _is_newer(task, stated, known):
            difference.left_out.append(LeftOut(TASK_IN_TWO_FORMS, f"{found.name}: the first form in the file counts"))
            return known
        difference.left_out.append(LeftOut(OLDER_TASK, f"{found.name}: the file has a newer form of it"))
        ids.has_corrected_task |= (task.uri, task.images) != (known.uri, known.images)
    if _is_older(task, stated, known):
        difference.left_out.append(LeftOut(OLDER_TASK, f"{found.name}: its kept form is of {known.updated_at}"))
        return known
    taken.add(key)
    task = replace(task, read_after=position)
    difference.events.append(task)
    return task


def _take_annotation(
    event: AnnotationSaved,
    match: Match | None,
    found: TaskEvents,
    difference: TaskDifference,
    position: int,
    taken: set[int],
) -> AnyAnnotation:
    """Return the form of the annotation that counts. It belongs to the task and the image of the event."""
    key = hash(event.annotation_id)
    if match is None:
        taken.add(key)
        difference.events.append(event)
        difference.taken.append(event)
        return event
    _, stated, known = match
    if not stated.created:
        times = {"created_at": known.data.get("created_at", event.data.get("created_at"))}
        event = replace(event, created_at=known.created_at, data={**event.data, **times})
    if same_annotation(event, known):
        taken.add(key)
        difference.taken.append(event)
        return known
    if key in taken:
        same = same_content(event.data, known.data)
        if same and event.uri == known.uri:
            return known  # under another task of the same image
        if not _is_newer(event, stated, known):
            problem = f"{found.name}: annotation {event.annotation_id}: the first form in the file counts"
            difference.left_out.append(LeftOut(IN_TWO_FORMS, problem))
            return known
        if not same or event.task_id != known.task_id:  # else the address of its task has a newer form
            problem = f"{found.name}: annotation {event.annotation_id}: the file has a newer form of it"
            difference.left_out.append(LeftOut(OLDER_ANNOTATION, problem))
    if not _is_older(event, stated, known):
        taken.add(key)
        event = replace(event, read_after=position)
        difference.events.append(event)
        difference.taken.append(event)
        return event
    problem = f"{found.name}: annotation {event.annotation_id}: its kept form is of {known.updated_at}"
    difference.left_out.append(LeftOut(OLDER_ANNOTATION, problem))
    if known.task_id != event.task_id or known.uri == event.uri:
        return known  # what is older does not say where the annotation is now
    moved = _moved(known, event, position)
    difference.events.append(moved)
    return moved


def _is_older(event: TaskSaved | AnnotationSaved, stated: StatedTimes, known: AnyTask | AnyAnnotation) -> bool:
    """Return whether the event is an older form. A kept time in the future, of a clock that was ahead, says nothing."""
    kept_at = known.updated_at or known.created_at
    return stated.updated and (event.updated_at or event.created_at) < kept_at <= datetime.now(UTC)


def _is_newer(event: TaskSaved | AnnotationSaved, stated: StatedTimes, known: AnyTask | AnyAnnotation) -> bool:
    """Return whether the event is stated to be a newer form."""
    return stated.updated and (event.updated_at or event.created_at) > (known.updated_at or known.created_at)


def _moved(known: AnyAnnotation, event: AnnotationSaved, position: int) -> AnnotationSaved:
    """Return the kept form of an annotation, at the task and image of the event."""
    data: Mapping[str, Any] = {**known.data, "task": event.data.get("task")}
    return replace(event, created_at=known.created_at, updated_at=known.updated_at, data=data, read_after=position)
