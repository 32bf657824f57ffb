"""An id that stands for several annotations of one task in one file: which of them counts, whatever their order."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from taxonomist.backend.labelling.exports.forms import digest
from taxonomist.backend.labelling.import_result import LeftOut
from taxonomist.backend.labelling.kept_content import CONTENT, person
from taxonomist.backend.labelling.task_events import StatedTimes, TaskEvents
from taxonomist.storage.journal import AnnotationSaved, Event

OLDER_ANNOTATION = "annotation that is kept in a newer form"
IN_TWO_FORMS = "annotation that the file has in two forms"
_COMPARED = 200  # characters of an answer as JSON


class _Rank(NamedTuple):
    """The greatest rank counts: a stated time before none, the later time, then the answer that sorts last as JSON."""

    updated_is_stated: bool
    updated_at: datetime
    created_is_stated: bool
    created_at: datetime
    answer: str


class RepeatedAnnotations:
    """Of the annotations with one id in one task, the one that counts. `add` gets all tasks before `choose`."""

    def __init__(self) -> None:
        self._best: dict[tuple[str, str, str], _Rank] = {}

    def add(self, found: TaskEvents) -> None:
        """Add the annotations of a task."""
        for event, stated in zip(found.events, found.stated, strict=True):
            if isinstance(event, AnnotationSaved):
                rank = _rank(event, stated)
                self._best[_key(event)] = max(rank, self._best.get(_key(event), rank))

    def choose(self, found: TaskEvents) -> tuple[TaskEvents, list[LeftOut]]:
        """Return the task without the annotations that do not count, and those of them that say something else."""
        if not self._best:
            return found, []
        kept: list[tuple[Event, StatedTimes]] = []
        left_out: list[LeftOut] = []
        for event, stated in zip(found.events, found.stated, strict=True):
            if not isinstance(event, AnnotationSaved):
                kept.append((event, stated))
                continue
            rank, best = _rank(event, stated), self._best[_key(event)]
            if rank == best:
                kept.append((event, stated))
            elif rank.answer != best.answer:
                is_older = stated.updated and rank.updated_at < best.updated_at
                reason = OLDER_ANNOTATION if is_older else IN_TWO_FORMS
                says = "a newer form of it" if is_older else "another form of it, which counts"
                problem = f"{found.name}: annotation {event.annotation_id}: the file has {says}"
                left_out.append(LeftOut(reason, problem))
        return replace(found, events=[event for event, _ in kept], stated=[stated for _, stated in kept]), left_out


def _key(event: AnnotationSaved) -> tuple[str, str, str]:
    return event.annotation_id, event.task_id, event.uri


def _rank(event: AnnotationSaved, stated: StatedTimes) -> _Rank:
    answer = [*(event.data.get(name) or None for name in CONTENT), person(event.data)]
    text = json.dumps(answer, sort_keys=True, default=str)
    text = text if len(text) <= _COMPARED else text[:_COMPARED] + digest(answer)
    return _Rank(stated.updated, event.updated_at, stated.created, event.created_at, text)
