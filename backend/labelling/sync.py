"""The pass over Label Studio's API: the journal gets what no webhook has reported, or none could report.

Label Studio sends each webhook only once. It sends none when a task's data is corrected, when *Remove duplicated tasks*
moves annotations, and when a star goes to another annotation. So the pass compares content, not times.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from taxonomist.backend.label_studio import Project
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress
from taxonomist.storage.journal import (
    AnnotationDeleted,
    AnnotationRecord,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskRecord,
    TaskSaved,
)
from taxonomist.taxonomy.errors import BadRequestError, LabelStudioError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config

log = logging.getLogger(__name__)

CHUNK = 200  # events that are compared and recorded together
_CONTENT = ("result", "was_cancelled", "ground_truth", "lead_time", "reviews")


def sync(services: Services, project: str, progress: StepProgress) -> str:
    """Record in the journal what Label Studio has, decide the labels of what changed, and return a summary in one line.

    What the API shows alive lives, also if it was recorded as deleted. What is in the journal from this Label Studio
    and not in the lists was deleted without a webhook that arrived. What was recorded since the pass began is left
    alone, since the pass may not have read it.

    Raises `LabelStudioError` when this is not the Label Studio that was connected: then nothing changes; and when the
    lists contradict the project's own counts: then nothing is deleted.
    """
    with services.open_label_studio(project) as client:
        before = client.project(project)
        source = check_source(services, before, client.url)
        config = parse_label_config(before.label_config)
        services.projects.update(project, label_config=before.label_config)
        reading = _Pass(services, project, source, config)
        for share in reading.read_tasks(client.tasks(project), before.tasks):
            progress("tasks", 0.5 * share)
        for share in reading.read_annotations(client.export_annotations(project), before.annotated_tasks):
            progress("annotations", 0.5 + 0.4 * share)
        after = client.project(project)
    decide_all_dirty(services, project)
    check_source(services, after, client.url)
    reading.check_counts(before, after)
    deleted = reading.delete_missing()
    decide_all_dirty(services, project)
    return f"{reading.found}, {reading.new} missed events, {deleted} missed deletions"


class _Pass:
    """What one pass reads: it compares each chunk with the journal and records what differs."""

    def __init__(self, services: Services, project: str, source: str, config: LabelConfig) -> None:
        self._services, self._project, self._source, self._config = services, project, source, config
        self._begun = services.journal.position()
        self._tasks: set[str] = set()
        self._annotations: set[str] = set()
        self._submitted: set[str] = set()
        self.new = 0

    @property
    def found(self) -> str:
        """The numbers of tasks and annotations, as a text."""
        return f"{len(self._tasks)} tasks, {len(self._annotations)} annotations"

    def read_tasks(self, tasks: Iterable[Mapping[str, Any]], expected: int) -> Iterator[float]:
        """Read the list of all tasks; yield the share of the work that is done."""
        for chunk in _chunks(tasks):
            self._tasks |= {str(task["id"]) for task in chunk}
            self._record(chunk)
            yield min(1.0, len(self._tasks) / max(expected, 1))

    def read_annotations(self, tasks: Iterable[Mapping[str, Any]], expected: int) -> Iterator[float]:
        """Read the list of tasks with their annotations; yield the share of the work that is done."""
        done = 0
        for chunk in _chunks(tasks):
            annotations = [annotation for task in chunk for annotation in task.get("annotations") or []]
            self._annotations |= {str(annotation["id"]) for annotation in annotations}
            self._submitted |= {str(found["id"]) for found in annotations if not found.get("was_cancelled")}
            self._record(chunk)
            done += len(chunk)
            yield min(1.0, done / max(expected, 1))

    def check_counts(self, before: Project, after: Project) -> None:
        """Raise `LabelStudioError` when a list is shorter than Label Studio's own count before and after the pass."""
        for what, read, counts in (
            ("tasks", len(self._tasks), (before.tasks, after.tasks)),
            ("annotations", len(self._submitted), (before.annotations, after.annotations)),
        ):
            if read < min(counts):
                raise LabelStudioError(
                    f"Label Studio listed {read} {what} of project {self._project} and counts {min(counts)}. "
                    "Nothing was deleted.",
                    hint=f"The next pass tries again; `taxonomist sync --project {self._project}` does it now.",
                )

    def delete_missing(self) -> int:
        """Record deletions that no webhook reported: of what is in the journal and in none of the lists."""
        journal, project, source = self._services.journal, self._project, self._source
        journal.fold()
        at = datetime.now(UTC)
        deletions: list[Event] = [
            TaskDeleted(project, source, task.task_id, at, self._begun)
            for task in journal.tasks(project, source=source)
            if task.task_id not in self._tasks
        ]
        deletions += [
            AnnotationDeleted(project, source, record.annotation_id, at, self._begun)
            for record in journal.annotations(project, source=source)
            if record.annotation_id not in self._annotations
        ]
        for chunk in _chunks(deletions):
            journal.record(chunk)
        return len(deletions)

    def _record(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        events: list[Event] = []
        for task in tasks:
            found = task_events(
                self._project, self._source, task, self._config, datetime.now(UTC), read_after=self._begun
            )
            events += found.events
            for problem in found.problems:
                log.warning("project %s: %s", self._project, problem)
        for chunk in _chunks(events):
            self.new += record_usable(self._services.journal, self._unknown(chunk), self._refused)[1]

    def _refused(self, event: Event, error: BadRequestError) -> None:
        log.warning("project %s: task %s: %s", self._project, getattr(event, "task_id", ""), error)

    def _unknown(self, events: Sequence[Event]) -> list[Event]:
        """Return the events whose content the journal does not have."""
        journal, project, source = self._services.journal, self._project, self._source
        journal.fold()
        task_ids = [event.task_id for event in events if isinstance(event, TaskSaved)]
        tasks = {record.task_id: record for record in journal.tasks(project, source=source, ids=task_ids)}
        ids = [event.annotation_id for event in events if isinstance(event, AnnotationSaved)]
        annotations = {record.annotation_id: record for record in journal.annotations(project, source=source, ids=ids)}
        unknown: list[Event] = []
        for event in events:
            match event:
                case TaskSaved():
                    is_known = _is_same_task(event, tasks.get(event.task_id))
                case AnnotationSaved():
                    is_known = _is_same_annotation(event, annotations.get(event.annotation_id))
                case _:
                    is_known = False
            if not is_known:
                unknown.append(event)
        return unknown


def _is_same_task(event: TaskSaved, record: TaskRecord | None) -> bool:
    return record is not None and (event.uri, event.images, event.created_at, event.data) == (
        record.uri,
        record.images,
        record.created_at,
        record.data,
    )


def _is_same_annotation(event: AnnotationSaved, record: AnnotationRecord | None) -> bool:
    """Return whether the journal has the annotation with this content.

    What Label Studio forgot, the annotator of a deleted account, is no difference: the journal keeps it.
    """
    if record is None:
        return False
    read, known = event.data, record.data
    return (
        (event.task_id, event.uri, event.created_at) == (record.task_id, record.uri, record.created_at)
        and all((read.get(name) or None) == (known.get(name) or None) for name in _CONTENT)
        and _person(read) in {None, _person(known)}
    )


def _person(annotation: Mapping[str, Any]) -> str | None:
    person = annotation.get("completed_by")
    if isinstance(person, Mapping):
        person = person.get("id") or person.get("email")
    return None if person is None else str(person)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
