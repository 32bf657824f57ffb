"""Whether an id of an export stands for what is kept under it, or for another task or annotation.

Ids count within a source, and each Label Studio counts from 1. Exports of two of them may come under one file name;
then the second must not replace the first. Within one Label Studio a task may get another image (a corrected address),
and an annotation another task (*Remove duplicated tasks*): these must follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from taxonomist.backend.labelling.kept_content import AnyAnnotation, AnyTask, KeptContent, person, same_answer
from taxonomist.backend.labelling.task_events import StatedTimes, TaskEvents
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationSaved, TaskSaved


class Match(NamedTuple):
    """An annotation of an export, and what is kept under its id."""

    event: AnnotationSaved
    stated: StatedTimes
    kept: AnyAnnotation


class _Evidence(IntEnum):
    OTHER = 0
    NONE = 1
    SAME = 2  # as far as it says: two people may answer alike in the same second
    PROOF = 3


def matches_of(found: TaskEvents, kept: KeptContent) -> list[Match]:
    """Return the annotations of a task whose ids are kept."""
    return [
        Match(event, stated, kept.annotations[event.annotation_id])
        for event, stated in zip(found.events[1:], found.stated[1:], strict=True)
        if isinstance(event, AnnotationSaved) and event.annotation_id in kept.annotations
    ]


def is_other_task(task: TaskSaved, stated: StatedTimes, kept: AnyTask, matches: Sequence[Match]) -> bool:
    """Return whether the task is another one than the kept one with its id. `matches` are its annotations."""
    shares_image = bool(_images(task) & _images(kept))
    evidence = {_evidence(match, moved=not shares_image) for match in matches}
    if _Evidence.PROOF in evidence:
        return False
    is_contradicted = _Evidence.OTHER in evidence
    if stated.created and differ(task.created_at, kept.created_at):
        return is_contradicted or not shares_image
    return not shares_image and (is_contradicted or not (stated.created or _Evidence.SAME in evidence))


def is_other_annotation(match: Match, *, same_task: bool) -> bool:
    """Return whether the annotation is another one than the kept one with its id.

    Label Studio on SQLite uses an id again. In the `same_task`, what the same annotator said at another time is no
    other one: it takes the place of what was deleted.
    """
    event, stated, kept = match
    moved = event.task_id != kept.task_id and image_id(event.uri) != image_id(kept.uri)
    evidence = _evidence(match, moved=moved)
    if moved and not stated.created and evidence is not _Evidence.PROOF:
        return True  # nothing says that it is the kept one
    if evidence is not _Evidence.OTHER:
        return False
    again = stated.created and differ(event.created_at, kept.created_at)
    same_person = person(event.data) in {None, person(kept.data)}
    return not (same_task and again and kept.task_id == event.task_id and same_person)


def _evidence(match: Match, *, moved: bool) -> _Evidence:
    """Return whether an annotation is the kept one. `moved`: they have different images."""
    event, stated, kept = match
    names = event.data.get("unique_id"), kept.data.get("unique_id")
    if None not in names:
        return _Evidence.PROOF if names[0] == names[1] else _Evidence.OTHER
    projects = event.data.get("project"), kept.data.get("project")
    if None not in projects and str(projects[0]) != str(projects[1]):
        return _Evidence.OTHER
    if stated.created and differ(event.created_at, kept.created_at):
        return _Evidence.OTHER
    same = same_answer(event.data, kept.data)
    if moved and not same and (not stated.updated or event.updated_at == kept.updated_at):
        return _Evidence.OTHER  # another image and another answer, but no later time
    if stated.created and event.created_at.microsecond and event.created_at == kept.created_at:
        return _Evidence.PROOF
    if same:
        return _Evidence.SAME
    return _Evidence.SAME if stated.created else _Evidence.NONE


def differ(time: datetime, other: datetime) -> bool:
    """Return whether two times differ, as far as both are exact: old exports have them in whole seconds."""
    parts = (time.microsecond, other.microsecond)
    exact = timedelta(microseconds=1) if all(part % 1000 for part in parts) else timedelta(milliseconds=1)
    return abs(time - other) >= (exact if all(parts) else timedelta(seconds=1))


def _images(task: AnyTask) -> set[str]:
    return {image_id(uri) for uri in (task.uri, *task.images.values())}
