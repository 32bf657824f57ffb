"""The pass over Label Studio's API: the journal gets what no webhook has reported, or none could report.

Label Studio sends each webhook only once. It sends none when a task's data is corrected, when *Remove duplicated tasks*
moves annotations, and when a star goes to another annotation. So the pass compares content, not times.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from taxonomist.backend.label_studio import Project
from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.import_result import NOT_STORED, LeftOut, keep_last_import
from taxonomist.backend.labelling.kept_content import KeptContent, read_kept, same_annotation, same_task
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import LastImport
from taxonomist.progress import StepProgress
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, Event, TaskDeleted, TaskSaved
from taxonomist.taxonomy.errors import BadRequestError, LabelStudioError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config

log = logging.getLogger(__name__)

CHUNK = 200  # events that are compared and recorded together


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
        parse_label_config(before.label_config)  # one without a taxonomy is not stored
        record = services.projects.update(project, label_config=before.label_config, title=before.title)
        reading = _Pass(services, project, source, record.read_config())
        for share in reading.read_tasks(client.tasks(project), before.tasks):
            progress("tasks", 0.5 * share)
        for share in reading.read_annotations(client.export_annotations(project), before.annotated_tasks):
            progress("annotations", 0.5 + 0.4 * share)
        after = client.project(project)
    decide_all_dirty(services, project, lambda: progress("labels", 0.9))
    decide_anew(services, project, lambda: progress("labels", 0.9), learn=True)
    keep_last_import(services, project, source, reading.last_import)
    check_source(services, after, client.url)
    reading.check_counts(before, after)
    deleted = reading.delete_missing()
    decide_all_dirty(services, project, lambda: progress("labels", 0.95))
    return reading.summary(deleted)


class _Pass:
    """What one pass reads: it compares each chunk with the journal and records what differs."""

    def __init__(self, services: Services, project: str, source: str, config: LabelConfig) -> None:
        self._services, self._project, self._source, self._config = services, project, source, config
        self._begun = services.journal.position()
        self._tasks: set[str] = set()
        self._annotations: set[str] = set()
        self._submitted: set[str] = set()
        self._problems: set[int] = set()
        self._left_out: Counter[str] = Counter()
        self.new = 0

    @property
    def last_import(self) -> LastImport:
        """What was read, and what of it could not be used."""
        return LastImport(
            at=datetime.now(UTC),
            entries=len(self._tasks),
            annotations=len(self._annotations),
            left_out=dict(self._left_out.most_common()),
        )

    def summary(self, deleted: int) -> str:
        """Return what the pass has read, what of it could not be used, and what was new, in one line."""
        parts = [f"{len(self._tasks)} tasks", f"{len(self._annotations)} annotations"]
        if self._skipped:
            parts[-1] += f" ({self._skipped} skipped)"
        if self._left_out:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in self._left_out.most_common())
            parts.append(f"{self._left_out.total()} left out ({reasons})")
        return ", ".join([*parts, f"{self.new} missed events", f"{deleted} missed deletions"])

    @property
    def _skipped(self) -> int:
        return len(self._annotations) - len(self._submitted)

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
            ("skipped annotations", self._skipped, (before.skipped, after.skipped)),
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
        tasks: Iterator[Event] = (
            TaskDeleted(project, source, task.task_id, at, self._begun)
            for task in journal.tasks(project, source=source)
            if task.task_id not in self._tasks
        )
        annotations: Iterator[Event] = (
            AnnotationDeleted(project, source, record.annotation_id, at, self._begun)
            for record in journal.annotations(project, source=source)
            if record.annotation_id not in self._annotations
        )
        count = 0
        for chunk in _chunks(chain(tasks, annotations)):  # they are folded later, so the lists stay as they are
            journal.record(chunk)
            count += len(chunk)
        return count

    def _record(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        events: list[Event] = []
        for task in tasks:
            found = task_events(
                self._project, self._source, task, self._config, datetime.now(UTC), read_after=self._begun
            )
            events += found.events
            self._leave_out(found.unusable)
        for chunk in _chunks(events):
            self.new += record_usable(self._services.journal, self._unknown(chunk), self._refused)[1]

    def _refused(self, event: Event, error: BadRequestError) -> None:
        self._leave_out([LeftOut(NOT_STORED, f"task {getattr(event, 'task_id', '')}: {error}")])

    def _leave_out(self, parts: Iterable[LeftOut]) -> None:
        """Log and count parts of tasks that cannot be used; a task with annotations is in both lists."""
        for part in parts:
            if (key := hash((part.reason, part.problem))) not in self._problems:
                self._problems.add(key)
                self._left_out[part.reason] += 1
                log.warning("project %s: %s", self._project, part.problem)

    def _unknown(self, events: Sequence[Event]) -> list[Event]:
        """Return the events whose content the journal does not have."""
        self._services.journal.fold()
        kept = read_kept(self._services.journal, self._project, self._source, events)
        return [event for event in events if not _is_known(event, kept)]


def _is_known(event: Event, kept: KeptContent) -> bool:
    match event:
        case TaskSaved():
            return same_task(event, kept.tasks.get(event.task_id))
        case AnnotationSaved():
            return same_annotation(event, kept.annotations.get(event.annotation_id))
    return False


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
