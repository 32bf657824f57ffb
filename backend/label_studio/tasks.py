"""Tasks, their annotations and their predictions.

Long lists are read from the last id on, never by page numbers: a page shifts when tasks are annotated or deleted
meanwhile, and then tasks would be missed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from taxonomist.backend.label_studio.connection import Connection, project_number
from taxonomist.backend.label_studio.failures import refusal, translated
from taxonomist.backend.label_studio.records import Prediction

if TYPE_CHECKING:
    from label_studio_sdk.core.request_options import RequestOptions

log = logging.getLogger(__name__)

PAGE = 200
PUSH_BATCH = 500  # what Label Studio stores in one transaction
_SLOW: RequestOptions = {"max_retries": 0, "timeout_in_seconds": 600}


class TaskCalls(Connection):
    """The calls about tasks."""

    def export_annotations(self, project: str) -> Iterator[dict[str, Any]]:
        """Yield the tasks with annotations or skips, as Label Studio's JSON with `data` and `annotations`.

        Pages are read while the tasks are consumed. Tasks that were only skipped come first: one that is submitted
        meanwhile then comes twice, otherwise it would not come at all.
        """
        submitted = [_filter("total_annotations", "greater", 0)]
        skipped = [_filter("total_annotations", "equal", 0), _filter("cancelled_annotations", "greater", 0)]
        for condition in (skipped, submitted):
            yield from self._tasks(project, condition, "all")

    def tasks(
        self,
        project: str,
        *,
        unlabelled: bool = False,
        lacking_version: str | None = None,
        with_predictions: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield a project's tasks as Label Studio's JSON with `id`, `data` and `created_at`, without annotations.

        With `unlabelled` only tasks without any annotation, with `lacking_version` only tasks without a prediction of
        that model version. `with_predictions` adds all that Label Studio has of a task: its predictions, its
        annotations, and whether it has a draft (`draft_exists`, of anybody).
        """
        conditions = []
        if unlabelled:
            conditions += [_filter("total_annotations", "equal", 0), _filter("cancelled_annotations", "equal", 0)]
        passes = [conditions]
        if lacking_version is not None:
            # Label Studio compares substrings, so tasks that seem to have the version are checked again below.
            field, wanted = "predictions_model_versions", [lacking_version]
            passes = [
                [*conditions, _filter(field, operator, wanted, kind="List")]
                for operator in ("contains", "not_contains")
            ]
        for condition in passes:
            for task in self._tasks(project, condition, "all" if with_predictions else "task_only"):
                if lacking_version not in _versions(task):
                    yield task

    def task(self, project: str, task_id: str) -> dict[str, Any] | None:
        """Return a task with its `annotations` and `predictions` as Label Studio's JSON; None when it is gone.

        Label Studio asks the backend meanwhile when the task has no prediction at all.
        """
        from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - the SDK

        with translated(self.url, f"read task {task_id} of project {project}"):
            try:
                task: dict[str, Any] = json.loads(self._sdk.tasks.get(task_id, request_options=_SLOW).json())
            except ApiError as error:
                if error.status_code != 404:
                    raise
                return None
            return task

    def tasks_with_version(self, project: str, version: str) -> Iterator[dict[str, Any]]:
        """Yield the tasks that have a prediction of that model version, each once, with all that they have."""
        last = None
        for task in self._tasks(
            project, [_filter("predictions_model_versions", "contains", [version], kind="List")], "all"
        ):
            # Label Studio compares substrings, and lists a task once for each prediction that matches.
            if task["id"] != last and version in _versions(task):
                yield task
            last = task["id"]

    def prediction_versions(self, project: str) -> list[str]:
        """Return the model versions of all stored predictions of a project."""
        doing = f"list the model versions of project {project}"
        with translated(self.url, doing):
            answer = self._http.get(f"{self.url}/api/projects/{project_number(project)}/model-versions/")
            body = answer.json()
        if answer.is_error or not isinstance(body, Mapping):
            raise refusal(self.url, doing, answer.status_code, body)
        return [version for version in body if isinstance(version, str)]

    def delete_prediction(self, project: str, prediction_id: int) -> bool:
        """Delete a stored prediction; return whether it was still there."""
        from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - the SDK

        with translated(self.url, f"delete prediction {prediction_id} of project {project}"):
            try:
                self._sdk.predictions.delete(prediction_id)
            except ApiError as error:
                if error.status_code != 404:
                    raise
                return False
            return True

    def update_prediction(self, project: str, prediction_id: int, prediction: Prediction) -> None:
        """Replace the score and the result of a stored prediction."""
        with translated(self.url, f"change prediction {prediction_id} of project {project}"):
            self._sdk.predictions.update(
                prediction_id,
                task=int(prediction.task_id),
                score=prediction.score,
                result=[dict(region) for region in prediction.result],
                model_version=prediction.model_version,
            )

    def _tasks(self, project: str, conditions: Sequence[Mapping[str, Any]], fields: str) -> Iterator[dict[str, Any]]:
        last = 0
        while True:
            filters = {"conjunction": "and", "items": [*conditions, _filter("id", "greater", last)]}
            with translated(self.url, f"read the tasks of project {project}"):
                page: Any = self._sdk.tasks.list(
                    project=project_number(project),
                    query=json.dumps({"filters": filters, "ordering": ["tasks:id"]}),
                    page_size=PAGE,
                    fields=fields,
                    resolve_uri=False,  # the addresses of /predict and webhooks
                )
                tasks: list[dict[str, Any]] = [json.loads(task.json()) for task in page.items or []]
            yield from tasks
            if len(tasks) < PAGE:
                return
            last = int(tasks[-1]["id"])

    def push_predictions(self, project: str, predictions: Iterable[Prediction]) -> int:
        """Store predictions, `PUSH_BATCH` per request; return how many were stored.

        For a task that was deleted meanwhile, only its own prediction is lost. Label Studio drops predictions that do
        not fit the labelling config without an error; a warning is logged. Nothing is replaced: a prediction that is
        stored twice is there twice.
        """
        stored, rest = 0, iter(predictions)
        while batch := list(islice(rest, PUSH_BATCH)):
            stored += self._push(project, batch)
        return stored

    def _push(self, project: str, batch: Sequence[Prediction]) -> int:
        from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - the SDK

        body: Any = [
            {"task": int(task), "model_version": version, "score": score, "result": list(result)}
            for task, version, score, result in batch
        ]
        with translated(self.url, f"store predictions in project {project}"):
            try:
                answer = self._sdk.projects.import_predictions(
                    project_number(project), request=body, request_options=_SLOW
                )
            except ApiError as error:
                if error.status_code != 400:
                    raise
                answer = None
        if answer is None and len(batch) > 1:
            # One deleted task fails the whole request, and the answer does not name it in a stable form.
            half = len(batch) // 2
            return self._push(project, batch[:half]) + self._push(project, batch[half:])
        created = int(answer.created or 0) if answer is not None else 0
        if created < len(batch):
            tasks = ", ".join(str(prediction[0]) for prediction in batch[:10])
            log.warning(
                "project %s: Label Studio did not store %d of %d predictions (tasks %s%s)",
                project,
                len(batch) - created,
                len(batch),
                tasks,
                ", …" if len(batch) > 10 else "",
            )
        return created


def _versions(task: Mapping[str, Any]) -> list[str]:
    if predictions := task.get("predictions"):  # the other field is cut off after 500 characters
        return [str(found.get("model_version")) for found in predictions if isinstance(found, Mapping)]
    versions = task.get("predictions_model_versions") or []
    return versions.split(",") if isinstance(versions, str) else list(versions)


def _filter(field: str, operator: str, value: object, *, kind: str = "Number") -> dict[str, Any]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}
