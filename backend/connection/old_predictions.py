"""Predictions of old versions in Label Studio: each is a tab beside the annotations of its task.

Those of the last two versions that Label Studio showed are kept. An older one may still be open in a browser,
and Label Studio refuses an annotation whose `parent_prediction` is gone. Its API shows drafts, but not which tasks are
locked or open. So a push changes such a prediction in place, which keeps its id, and only what it leaves is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.predictions import is_model_version, model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.pipeline import in_batches
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import LabelStudioError

log = logging.getLogger(__name__)

PAGE = 200  # tasks whose annotations are looked up together
_OPEN_TASK_KEEPS = 2  # predictions of ours, of whatever version, on a task that is not completed


def shown_versions(services: Services, project: str, served: str) -> frozenset[str]:
    """Return the last two model versions that Label Studio showed, and the one that is served."""
    record = services.projects.get(project)
    before = record.announced_before
    if before is None and (previous := services.registry.previous(registry_name(project))):
        before = model_version_name(previous)  # a record of an earlier release does not have it
    return frozenset(version for version in (served, record.announced, before) if version is not None)


def replaceable(task: Mapping[str, Any], kept: Collection[str]) -> int | None:
    """Return the id of a prediction of ours that a new one may replace in place: the newest of an old version.

    None for a task with a draft, and one without such a prediction. `task` is Label Studio's JSON with predictions.
    """
    if has_draft(task):
        return None
    return next((id for id, version in reversed(_own_predictions(task)) if version not in kept), None)


@dataclass
class Removal:
    """How many predictions of old versions were removed, and the ids of those that stay for now."""

    removed: int = 0
    left: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        left = f", {len(self.left)} stay" if self.left else ""
        return f"{self.removed} predictions of older versions were removed{left}"


def remove_old_predictions(
    services: Services, client: LabelStudioClient, project: str, served: str, progress: StepProgress
) -> Removal:
    """Remove the project's predictions of versions of ours that Label Studio no longer shows. Return what was done.

    Never those of a task with a draft, and never one that an annotation was made from, unless the journal knows that
    annotation's origin and a person spent time on it. A task that is not completed keeps its newest two. A page of
    tasks is read at a time, and what was removed is not read again, so the work goes on where it was stopped.

    When Label Studio refuses or cannot be reached, the rest stays until the next push.
    """
    kept = shown_versions(services, project, served)
    removal = Removal()
    try:
        versions = [name for name in client.prediction_versions(project) if is_model_version(name) and name not in kept]
        for number, version in enumerate(versions):
            progress("removing old predictions", number / len(versions))
            for page in in_batches(client.tasks_with_version(project, version), PAGE):
                known = _known_origins(services, project, page)
                for task in page:
                    _remove_from(client, project, task, kept, known, removal)
    except LabelStudioError as error:
        log.warning("project %s: predictions of older versions stay until the next push: %s", project, error)
    if removal.removed or removal.left:
        log.info("project %s: %s", project, removal)
    return removal


def _remove_from(
    client: LabelStudioClient,
    project: str,
    task: Mapping[str, Any],
    kept: Collection[str],
    known: Collection[str],
    removal: Removal,
) -> None:
    own = _own_predictions(task)
    old = [id for id, version in own if version not in kept]
    needed = set(_parents(task, known))
    if not task.get("is_labeled"):
        needed |= {id for id, _ in own[-_OPEN_TASK_KEEPS:]}
    removable = [] if has_draft(task) else [id for id in old if id not in needed]
    removal.left.update(set(old) - set(removable))  # a task comes once for each of its old versions
    for id in removable:
        removal.removed += client.delete_prediction(project, id)


def _own_predictions(task: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return id and version of the task's predictions of ours, the one that was changed last at the end."""
    found = [
        (str(prediction.get("updated_at") or ""), prediction["id"], str(prediction["model_version"]))
        for prediction in task.get("predictions") or []
        if isinstance(prediction, Mapping)
        and isinstance(prediction.get("id"), int)
        and is_model_version(prediction.get("model_version"))
    ]
    return [(id, version) for _, id, version in sorted(found)]


def _parents(task: Mapping[str, Any], known: Collection[str]) -> Iterator[int]:
    """Yield the predictions from which an annotation was made that would lose its origin with it.

    Label Studio forgets the prediction of an annotation when it is deleted. What the model made is known by it alone.
    """
    for annotation in task.get("annotations") or []:
        parent = annotation.get("parent_prediction")
        if parent is not None and (annotation.get("lead_time") is None or str(annotation.get("id")) not in known):
            yield parent


def _known_origins(services: Services, project: str, tasks: Collection[Mapping[str, Any]]) -> set[str]:
    """Return the ids of the annotations whose prediction is in the journal."""
    ids = [str(annotation.get("id")) for task in tasks for annotation in task.get("annotations") or []]
    services.journal.fold()
    source = services.projects.get(project).source
    records = services.journal.annotations(project, source=source, ids=ids)
    return {record.annotation_id for record in records if record.data.get("parent_prediction") is not None}


def has_draft(task: Mapping[str, Any]) -> bool:
    """Return whether a task has a draft of anybody. `task` is Label Studio's JSON with all that it has."""
    return task.get("draft_exists") is not False or bool(task.get("drafts"))
