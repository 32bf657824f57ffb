"""The job that writes what people label in one action, and undoes it.

It goes on from what is kept of the actions and from what Label Studio has, so one that was killed anywhere is continued
by the next one. No annotation is written twice: each has an id that follows from its action and its task, which Label
Studio takes once, and regions by which the next run finds it. What is written is recorded in the journal at once, as
the webhook about it will: the same annotation is the same event.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.annotations import MOST_TASKS, NewAnnotation, RefusedError
from taxonomist.backend.labelling.bulk.proposal import label_problem
from taxonomist.backend.labelling.kept_content import person as annotator_of
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ActionState, BulkAction, BulkItem, ItemState
from taxonomist.backend.state.jobs import JobKind
from taxonomist.progress import StepProgress
from taxonomist.storage.journal import AnnotationDeleted
from taxonomist.taxonomy.label_config import parse_label_config

log = logging.getLogger(__name__)
TASK_GONE = "Its task is gone from Label Studio."
PATH_GONE = "The labelling config does not take the label any more."
WRITTEN_BEFORE = "It was labelled by this action before, and a person has changed that."
_AT_ONCE = 4  # annotations that are written at the same time: Label Studio's time for one is mostly waiting
_OPEN = {ActionState.WRITING: (ItemState.WAITING,), ActionState.UNDOING: (ItemState.WAITING, ItemState.WRITTEN)}
_END = {ActionState.WRITING: ActionState.WRITTEN, ActionState.UNDOING: ActionState.UNDONE}


def start(services: Services, project: str, action: str) -> bool:
    """Begin a proposed action; return False for one that has begun already."""
    return _move(services, project, action, ActionState.WRITING, ActionState.PROPOSED)


def undo(services: Services, project: str, action: str) -> bool:
    """Begin to undo an action, also one that is being written; return False where nothing is to be undone."""
    return _move(services, project, action, ActionState.UNDOING, ActionState.WRITING, ActionState.WRITTEN)


def _move(services: Services, project: str, action: str, state: ActionState, *of: ActionState) -> bool:
    if not services.bulk_labels.move(project, action, state, of=of):
        return False
    services.jobs.enqueue(JobKind.BULK, project, f"action {action}: {state}")
    return True


def go_on(services: Services, project: str, progress: StepProgress) -> str:
    """Write and undo what the actions of a project still have to; return the outcome in one line.

    Raises `LabelStudioError` when Label Studio stops answering; the next call continues.
    """
    if not services.bulk_labels.running(project):
        return "nothing is to be written"
    with services.open_label_studio(project) as client:
        about = client.project(project)
        work = _Work(services, client, project, check_source(services, about, client.url), about.label_config)
        ended: dict[str, BulkAction] = {}
        while running := services.bulk_labels.running(project):  # again: a person may undo one meanwhile
            if (action := work.step(running[0])) is not None:
                ended[action.id] = action
            progress("labels", _share(running[0]))
    return "; ".join(_summary(action) for action in ended.values())


def _share(action: BulkAction) -> float:
    left = sum(action.counts.get(state, 0) for state in _OPEN[action.state])
    return 1 - left / max(action.tasks, 1)


def _summary(action: BulkAction) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(action.counts.items()))
    return f"action {action.id} is {action.state} ({counts})"


class _Work:
    """What the actions of a project have in common."""

    def __init__(
        self, services: Services, client: LabelStudioClient, project: str, source: str, label_config: str
    ) -> None:
        self._services, self._client, self._project, self._source = services, client, project, source
        self._trees = {tree.control: tree for tree in parse_label_config(label_config).trees}
        self._config = services.label_config(project)

    def step(self, action: BulkAction) -> BulkAction | None:
        """Work on the next tasks of an action; return the action once it has ended."""
        actions = self._services.bulk_labels
        items = actions.items(action.id, _OPEN[action.state])[:MOST_TASKS]
        if not items:
            actions.move(self._project, action.id, _END[action.state], of=[action.state])
            return actions.get(self._project, action.id)
        tasks = self._client.tasks_by_id(self._project, [item.task for item in items])
        (self._write if action.state is ActionState.WRITING else self._undo)(action, items, tasks)
        return None

    # --- writing

    def _write(self, action: BulkAction, items: Sequence[BulkItem], tasks: Mapping[int, Mapping[str, Any]]) -> None:
        found: list[BulkItem] = []
        written: list[Mapping[str, Any]] = []
        new: list[BulkItem] = []
        is_taken = all(
            control in self._trees and label_problem(self._trees[control], path) is None
            for control, path in action.labels.items()
        )
        for item in items:
            task = tasks.get(item.task)
            if task is None:
                found.append(replace(item, state=ItemState.FAILED, problem=TASK_GONE))
            elif (ours := _ours(action, item, task)) is not None:  # a run that was killed has written it
                found.append(_written(item, ours))
                written.append({**task, "annotations": [ours]})
            elif _own(action, task):
                found.append(replace(item, state=ItemState.OWN))
            elif not is_taken:
                found.append(replace(item, state=ItemState.FAILED, problem=PATH_GONE))
            else:
                new.append(item)
        failure: Exception | None = None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = [(item, pool.submit(self._write_one, action, item)) for item in new]
        for item, answer in answers:
            try:
                annotation = answer.result()
            except RefusedError as refused:
                found.append(replace(item, state=ItemState.FAILED, problem=str(refused)))
            except Exception as error:  # what was written is kept first
                failure = failure or error
            else:
                found.append(_written(item, annotation))
                written.append({**tasks[item.task], "annotations": [annotation]})
        self._record(written)
        self._services.bulk_labels.keep(action.id, found)
        if failure is not None:
            raise failure

    def _write_one(self, action: BulkAction, item: BulkItem) -> Mapping[str, Any]:
        name = f"taxonomist:{self._source}:{action.id}:{item.task}"
        unique_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        new = NewAnnotation(item.task, action.person, action.result, unique_id)
        if (written := self._client.write_bulk_annotation(new)) is not None:
            return written
        task = self._client.tasks_by_id(self._project, [item.task]).get(item.task, {})
        if (ours := _ours(action, item, task)) is None:
            raise RefusedError(WRITTEN_BEFORE)
        return ours

    def _record(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        now = datetime.now(UTC)
        events = [
            event
            for task in tasks
            for event in task_events(self._project, self._source, task, self._config, now).events
        ]
        record_usable(
            self._services.journal,
            events,
            lambda _, error: log.warning("project %s: what was written waits: %s", self._project, error),
        )

    # --- undoing

    def _undo(self, action: BulkAction, items: Sequence[BulkItem], tasks: Mapping[int, Mapping[str, Any]]) -> None:
        found: list[BulkItem] = []
        together: list[BulkItem] = []
        try:
            for item in items:
                task = tasks.get(item.task, {})
                if (ours := _ours(action, item, task)) is None:
                    state = ItemState.LEFT if item.state is ItemState.WAITING else ItemState.GONE
                    found.append(replace(item, state=state))
                    continue
                known = item if item.annotation is not None else _written(item, ours)
                if _is_changed(action, known, ours):
                    found.append(replace(known, state=ItemState.KEPT))
                elif len(_own(action, task)) == 1 and not task.get("draft_exists"):
                    together.append(replace(known, state=ItemState.REMOVED))
                elif known.annotation in self._client.draft_annotations(item.task):
                    found.append(replace(known, state=ItemState.KEPT))
                else:
                    self._client.delete_annotation(int(ours["id"]))
                    found.append(replace(known, state=ItemState.REMOVED))
            if together:
                self._client.delete_annotations_of(self._project, action.person, [item.task for item in together])
                found += together
        finally:
            self._keep_undone(action, found)

    def _keep_undone(self, action: BulkAction, items: Sequence[BulkItem]) -> None:
        deleted = [item for item in items if item.state in {ItemState.REMOVED, ItemState.GONE}]
        at = datetime.now(UTC)
        self._services.journal.record(
            [AnnotationDeleted(self._project, self._source, str(item.annotation), at) for item in deleted]
        )
        self._services.bulk_labels.keep(action.id, items)


def _written(item: BulkItem, annotation: Mapping[str, Any]) -> BulkItem:
    return replace(
        item, state=ItemState.WRITTEN, annotation=int(annotation["id"]), updated_at=str(annotation["updated_at"])
    )


def _own(action: BulkAction, task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of the action's person in a task, skips included."""
    return [found for found in task.get("annotations") or [] if annotator_of(found) == str(action.person)]


def _ours(action: BulkAction, item: BulkItem, task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the annotation that the action has written into a task, None where there is none."""
    ids = {region["id"] for region in action.result}
    for found in task.get("annotations") or []:
        if found["id"] == item.annotation if item.annotation is not None else not ids.isdisjoint(_region_ids(found)):
            return dict(found)
    return None


def _region_ids(annotation: Mapping[str, Any]) -> list[Any]:
    return [region.get("id") for region in annotation.get("result") or [] if isinstance(region, Mapping)]


def _is_changed(action: BulkAction, item: BulkItem, annotation: Mapping[str, Any]) -> bool:
    """Return whether a person has changed an annotation since it was written: also if only by saving it again."""
    return (
        str(annotation["updated_at"]) != item.updated_at
        or annotator_of(annotation) != str(action.person)
        or list(annotation.get("result") or []) != list(action.result)
        or bool(annotation.get("was_cancelled") or annotation.get("ground_truth"))
    )
