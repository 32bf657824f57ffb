"""Annotations that are written and deleted in the name of a person."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxonomist.backend.label_studio.connection import project_number
from taxonomist.backend.label_studio.failures import explain, refusal, translated
from taxonomist.backend.label_studio.tasks import TaskCalls
from taxonomist.taxonomy.errors import LabelStudioError

_STOPS = frozenset({401, 429, 502, 503, 504})  # of the whole Label Studio, not of one task
_DUPLICATE = 409
MOST_TASKS = 25  # that are read by their numbers: these are in the address, and proxies limit its length


@dataclass(frozen=True)
class NewAnnotation:
    """An annotation to write: the regions of its `result` as Label Studio's JSON.

    `unique_id` is a UUID: Label Studio never stores two annotations with the same one.
    """

    task: int
    person: int
    result: Sequence[Mapping[str, Any]]
    unique_id: str


class RefusedError(Exception):
    """Label Studio refuses an annotation for a reason that concerns its task alone."""


class AnnotationCalls(TaskCalls):
    """The calls about annotations. Threads may share a client."""

    def tasks_by_id(self, project: str, tasks: Collection[int]) -> dict[int, dict[str, Any]]:
        """Return at most `MOST_TASKS` tasks with their annotations of all people; one that the project lacks is absent.

        Unlike `task`, this makes Label Studio ask for no prediction.
        """
        if len(tasks) > MOST_TASKS:
            raise ValueError(f"{len(tasks)} tasks, at most {MOST_TASKS} are read at once")
        if not tasks:
            return {}
        items = [{"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": task} for task in tasks]
        with translated(self.url, f"read tasks of project {project}"):
            page: Any = self._sdk.tasks.list(
                project=project_number(project),
                query=json.dumps({"filters": {"conjunction": "or", "items": items}, "ordering": ["tasks:id"]}),
                page_size=MOST_TASKS,
                fields="all",
                resolve_uri=False,
            )
            found = [json.loads(task.json()) for task in page.items or []]
        return {int(task["id"]): task for task in found}

    def write_bulk_annotation(self, annotation: NewAnnotation) -> dict[str, Any] | None:
        """Write an annotation that is one of many, and return it as Label Studio has it; None if it is there already.

        It is marked as `bulk_created`, which Label Studio keeps, also when a person changes it. Raises `RefusedError`,
        and `LabelStudioError` for what concerns other annotations, too.
        """
        doing = f"label task {annotation.task}"
        body = {
            "result": [dict(region) for region in annotation.result],
            "completed_by": annotation.person,
            "unique_id": annotation.unique_id,
            "bulk_created": True,
        }
        with translated(self.url, doing):
            answer = self._http.post(f"{self.url}/api/tasks/{annotation.task}/annotations/", json=body)
            if answer.status_code == _DUPLICATE:
                return None
            content = _json(answer)
        if answer.is_success and isinstance(content, Mapping) and content.get("id") is not None:
            if lost := _lost(annotation, content):
                self.delete_annotation(int(content["id"]))
                raise LabelStudioError(
                    f"Cannot {doing}: this Label Studio does not keep {lost}.",
                    hint="Use a release that `taxonomist doctor` knows, or label the images one by one.",
                )
            return dict(content)
        if answer.status_code in _STOPS or not isinstance(content, Mapping):
            raise refusal(self.url, doing, answer.status_code, content)
        raise RefusedError(explain(content) or f"Label Studio answered {answer.status_code}")

    def draft_annotations(self, task: int) -> set[int]:
        """Return the annotations of a task that a person has begun to change: those with a draft."""
        doing = f"read the drafts of task {task}"
        with translated(self.url, doing):
            answer = self._http.get(f"{self.url}/api/tasks/{task}/drafts")
            content = _json(answer)
        if not answer.is_success or not isinstance(content, list):
            raise refusal(self.url, doing, answer.status_code, content)
        return {int(draft["annotation"]) for draft in content if draft.get("annotation") is not None}

    def delete_annotation(self, annotation: int) -> bool:
        """Delete an annotation; return whether it was still there."""
        doing = f"delete annotation {annotation}"
        with translated(self.url, doing):
            answer = self._http.delete(f"{self.url}/api/annotations/{annotation}/")
        if answer.status_code == 404:
            return False
        if not answer.is_success:
            raise refusal(self.url, doing, answer.status_code, _json(answer))
        return True

    def delete_annotations_of(self, project: str, person: int, tasks: Sequence[int]) -> None:
        """Delete all annotations and drafts of a person in tasks, in one request and with one webhook."""
        doing = f"delete annotations in project {project}"
        with translated(self.url, doing):
            answer = self._http.post(
                f"{self.url}/api/dm/actions",
                params={"id": "delete_tasks_annotations", "project": project_number(project)},
                json={"selectedItems": {"all": False, "included": list(tasks)}, "annotator": str(person)},
            )
        if not answer.is_success:
            raise refusal(self.url, doing, answer.status_code, _json(answer))


def _lost(annotation: NewAnnotation, content: Mapping[str, Any]) -> str | None:
    """Return what Label Studio has not kept of an annotation, None where it has kept all."""
    person = content.get("completed_by")
    if str(person.get("id") if isinstance(person, Mapping) else person) != str(annotation.person):
        return "whose annotation it is"
    return None if content.get("bulk_created") is True else "that an annotation is one of many"


def _json(answer: Any) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
