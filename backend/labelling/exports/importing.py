"""Imports the tasks of an export into a project: the source that the file belongs to follows it.

Ids of tasks and annotations count within the source. The export is compared with what is kept under them, by content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from taxonomist.backend.labelling.exports.annotation_ids import within_tasks
from taxonomist.backend.labelling.exports.difference import (
    TakenIds,
    TaskDifference,
    compare,
)
from taxonomist.backend.labelling.exports.files import ExportFiles
from taxonomist.backend.labelling.exports.forms import as_task
from taxonomist.backend.labelling.exports.identity import is_other_annotation, is_other_task, matches_of
from taxonomist.backend.labelling.exports.repeated_annotations import (
    IN_TWO_FORMS,
    OLDER_ANNOTATION,
    RepeatedAnnotations,
)
from taxonomist.backend.labelling.import_result import NOT_STORED, ImportSummary, LeftOut
from taxonomist.backend.labelling.kept_content import KeptContent, read_kept, same_annotation, same_content
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.task_events import TaskEvents, task_events
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationSaved, Event, Journal, TaskSaved
from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.label_config import LabelConfig

CHUNK = 500  # tasks that are in memory together
DELETED = "annotation that was deleted since"
ELSEWHERE = "annotation that is kept as Label Studio or another export has it"


@dataclass
class ExportImport:
    """An import of the tasks of an export, in chunks. `saved_at` replaces the times that the files do not state.

    `ids_within_tasks`: the ids of the annotations count anew within each task, in these files or in earlier ones of the
    source.
    """

    journal: Journal
    project: str
    source: str
    files: ExportFiles
    config: LabelConfig
    saved_at: datetime
    ids_within_tasks: bool
    summary: ImportSummary = field(default_factory=ImportSummary)

    def __post_init__(self) -> None:
        self.journal.fold()
        self._position = self.journal.position()
        self._follows_earlier = _has(self.journal, self.project, EARLIER_IMPORT)
        self._repeated = RepeatedAnnotations()
        if self.files.ids_repeat:
            for chunk in self._chunks(ImportSummary()):
                for found in chunk:
                    self._repeated.add(found)
        self._taken: set[int] = set()  # hashes of ids: a file may hold an annotation twice
        self._skipped: set[int] = set()

    def check_source(self) -> None:
        """Raise `ConfigError` when the ids of most tasks stand for other tasks or annotations of the source.

        Such a file comes from another Label Studio. Nothing was stored then.
        """
        if not _has(self.journal, self.project, self.source):
            return
        same, other = set[str](), set[str]()  # a file may have a task several times
        example = ""
        taken = TakenIds()
        for chunk in self._chunks(ImportSummary()):
            for found, difference in zip(chunk, self._compare(chunk, taken), strict=True):
                task = found.events[0] if found.events else None
                if difference.agrees is not None and isinstance(task, TaskSaved):
                    (same if difference.agrees else other).add(task.task_id)
                if difference.agrees is False and not example:
                    example = difference.left_out[0].problem
        other -= same
        if len(other) > len(same):
            raise ConfigError(
                f"{self.files.path} comes from elsewhere than the source {self.source!r} of project {self.project}: "
                f"the ids of {len(other)} of its {self.files.entries} tasks stand for others there ({example}). "
                "Nothing is imported.",
                hint="Ids count within a source. Give this file a name of its own: --source NAME.",
            )

    def chunks(self) -> Iterator[bool]:
        """Record the tasks in chunks; after each, yield whether a task of it is taken.

        The caller then folds the journal, and the chunk is counted.
        """
        taken = TakenIds()
        yield from self._take(taken)
        if taken.has_corrected_task:  # a second pass, so that the annotations before the correction follow
            self.summary, self._position = ImportSummary(), self.journal.position()
            self._taken, self._skipped = set(), set()
            yield from self._take(TakenIds())

    def _take(self, taken: TakenIds) -> Iterator[bool]:
        for chunk in self._chunks(self.summary):
            if self._follows_earlier:
                self._adopt_earlier(chunk)
            differences = self._compare(chunk, taken)
            refused: dict[int, str] = {}  # by the identity of the event

            def refuse(event: Event, error: BadRequestError, refused: dict[int, str] = refused) -> None:
                refused[id(event)] = f"task {getattr(event, 'task_id', '')}: {error}"

            record_usable(self.journal, [event for found in differences for event in found.events], refuse)
            yield any(difference.images for difference in differences)
            self._count(chunk, differences, refused)

    def _chunks(self, summary: ImportSummary) -> Iterator[list[TaskEvents]]:
        """Yield the tasks of the files; what is none is left out."""
        items = self.files.items()
        while chunk := list(islice(items, CHUNK)):
            tasks = []
            for position, item in enumerate(chunk, start=summary.entries):
                try:
                    task = as_task(item)
                except BadRequestError as error:
                    number = f"number {position + 1} of the file"
                    summary.leave_out([LeftOut("record of another form", f"{number}: {error}")])
                    continue
                tasks.append(
                    task_events(self.project, self.source, task, self.config, self.saved_at, position=position)
                )
            summary.entries += len(chunk)
            yield tasks

    def _compare(self, chunk: Sequence[TaskEvents], taken: TakenIds) -> list[TaskDifference]:
        chosen = [self._repeated.choose(found) for found in chunk]  # by the ids in the file; the journal's may change
        tasks, kept = self._with_kept([task for task, _ in chosen])
        differences = []
        for task, (_, left_out) in zip(tasks, chosen, strict=True):
            difference = compare(task, kept, self._position, taken)
            difference.left_out += left_out if difference.images else []
            differences.append(difference)
        return differences

    def _with_kept(self, chunk: Sequence[TaskEvents]) -> tuple[Sequence[TaskEvents], KeptContent]:
        """Return the tasks with the ids that their annotations have in the journal, and what is kept under the ids."""
        kept = read_kept(self.journal, self.project, self.source, _events(chunk))
        if self.ids_within_tasks:
            chunk = [within_tasks(found, kept.annotations) for found in chunk]
            kept = read_kept(self.journal, self.project, self.source, _events(chunk))
        return chunk, kept

    def _adopt_earlier(self, chunk: Sequence[TaskEvents]) -> None:
        """Give the source what an earlier release has imported without one, as far as it agrees with the file."""
        kept = read_kept(self.journal, self.project, EARLIER_IMPORT, _events(chunk))
        tasks: list[str] = []
        annotations: list[str] = []
        for found in chunk:
            matches = matches_of(found, kept)
            task = found.events[0] if found.events else None
            known = kept.tasks.get(task.task_id) if isinstance(task, TaskSaved) else None
            if isinstance(task, TaskSaved) and known is not None:
                if is_other_task(task, found.stated[0], known, matches):
                    continue
                tasks.append(task.task_id)
            same = known is not None
            annotations += [
                match.event.annotation_id for match in matches if not is_other_annotation(match, same_task=same)
            ]
        if tasks or annotations:
            self.journal.adopt(self.project, self.source, former=EARLIER_IMPORT, tasks=tasks, annotations=annotations)

    # --- what became of it

    def _count(
        self, chunk: Sequence[TaskEvents], differences: Sequence[TaskDifference], refused: Mapping[int, str]
    ) -> None:
        """Count what became of the tasks of a chunk, after the fold."""
        self.summary.leave_out(LeftOut(NOT_STORED, problem) for problem in refused.values())
        stored = [event for found in differences for event in found.taken if id(event) not in refused]
        lost = dict(self._lost(stored))
        for found, difference in zip(chunk, differences, strict=True):
            self.summary.leave_out(difference.left_out)
            if found.events and not difference.images:
                continue  # another task has its id
            self.summary.leave_out(found.left_out)
            self.summary.count_unknown(found.unknown, found.name)
            if not any(isinstance(event, TaskSaved) and id(event) in refused for event in difference.events):
                self.summary.images |= difference.images
            for event in difference.taken:
                if reason := lost.get(id(event)):
                    self.summary.leave_out([LeftOut(reason, f"{found.name}: annotation {event.annotation_id}")])
                elif id(event) not in refused:
                    self._count_annotation(event)

    def _count_annotation(self, event: AnnotationSaved) -> None:
        key = hash(event.annotation_id)
        self._taken.add(key)
        (self._skipped.add if event.data.get("was_cancelled") else self._skipped.discard)(key)
        self.summary.annotations, self.summary.skipped = len(self._taken), len(self._skipped)

    def _lost(self, events: Sequence[AnnotationSaved]) -> Iterator[tuple[int, str]]:
        """Yield the identities of the events of annotations that do not count after the fold, and why."""
        elsewhere = self.journal.lost(events)
        for event in elsewhere:
            record, is_deleted = self.journal.counterpart(event)
            if record is None:
                yield id(event), DELETED if is_deleted else NOT_STORED
            elif not same_content(event.data, record.data):
                yield id(event), OLDER_ANNOTATION if record.updated_at > event.updated_at else ELSEWHERE
        changed = [event for event in events if event.read_after is not None]
        kept = read_kept(self.journal, self.project, self.source, changed).annotations if changed else {}
        for event in changed:
            if not same_annotation(event, kept.get(event.annotation_id)):
                yield id(event), IN_TWO_FORMS


def _events(chunk: Sequence[TaskEvents]) -> list[Event]:
    return [event for found in chunk for event in found.events]


def _has(journal: Journal, project: str, source: str) -> bool:
    """Return whether the project has a task or an annotation of the source."""
    return any(True for _ in journal.tasks(project, source=source)) or any(
        True for _ in journal.annotations(project, source=source)
    )
