"""Tasks, their annotations and their predictions.

Long lists are read by the last id that was seen, never by page numbers: a page shifts when tasks are annotated or
deleted meanwhile, and then tasks would be missed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from taxonomist.backend.label_studio.connection import Connection, project_number
from taxonomist.backend.label_studio.failures import translated
from taxonomist.backend.label_studio.records import Prediction

if TYPE_CHECKING:
    from label_studio_sdk.core.request_options import RequestOptions

log = logging.getLogger(__name__)

PAGE = 200
PUSH_BATCH = 500  # as many as Label Studio stores in one go: a batch is stored whole or not at all
_SLOW: RequestOptions = {"max_retries": 0, "timeout_in_seconds": 600}


class TaskCalls(Connection):
    """The calls about tasks."""

    def export_annotations(self, project: str) -> Iterator[dict[str, Any]]:
        """Tasks that have annotations, skipped ones too, each as Label Studio's JSON with `data` and `annotations`.

        Read page by page while they are consumed. First come those that were only skipped, so that one of them that is
        submitted meanwhile comes twice rather than never.
        """
        submitted = [_filter("total_annotations", "greater", 0)]
        skipped = [_filter("total_annotations", "equal", 0), _filter("cancelled_annotations", "greater", 0)]
        for condition in (skipped, submitted):
            yield from self._tasks(project, condition, "all")

    def tasks(
        self, project: str, *, unlabelled: bool = False, lacking_version: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """A project's tasks as Label Studio's JSON with `id`, `data` and `created_at`, without their annotations.

        `unlabelled`: only those without any annotation; `lacking_version`: only those without a prediction of that
        model version.
        """
        conditions = []
        if unlabelled:
            conditions += [_filter("total_annotations", "equal", 0), _filter("cancelled_annotations", "equal", 0)]
        passes = [conditions]
        if lacking_version is not None:
            # Label Studio compares by substring, so those that seem to have the version are looked at again.
            field, wanted = "predictions_model_versions", [lacking_version]
            passes = [
                [*conditions, _filter(field, operator, wanted, kind="List")]
                for operator in ("contains", "not_contains")
            ]
        for condition in passes:
            for task in self._tasks(project, condition, "task_only"):
                if lacking_version not in _versions(task):
                    yield task

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
                    resolve_uri=False,  # as /predict and webhooks have it
                )
                found: list[dict[str, Any]] = [json.loads(task.json()) for task in page.items or []]
            yield from found
            if len(found) < PAGE:
                return
            last = int(found[-1]["id"])

    def push_predictions(self, project: str, predictions: Iterable[Prediction]) -> int:
        """Store predictions, `PUSH_BATCH` in a request; returns how many were stored.

        A task that was deleted meanwhile costs its own prediction only. Label Studio drops predictions that do not fit
        the labelling config without an error, which is logged. Nothing is replaced: storing twice makes two.
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
            # One task that is gone spoils the whole request, and the answer does not say which in a form to rely on.
            half = len(batch) // 2
            return self._push(project, batch[:half]) + self._push(project, batch[half:])
        created = int(answer.created or 0) if answer is not None else 0
        if created < len(batch):
            tasks = ", ".join(str(prediction[0]) for prediction in batch[:10])
            log.warning(
                "project %s: Label Studio did not take %d of %d predictions (tasks %s%s)",
                project,
                len(batch) - created,
                len(batch),
                tasks,
                ", …" if len(batch) > 10 else "",
            )
        return created


def _versions(task: Mapping[str, Any]) -> list[str]:
    versions = task.get("predictions_model_versions") or []
    return versions.split(",") if isinstance(versions, str) else list(versions)


def _filter(field: str, operator: str, value: object, *, kind: str = "Number") -> dict[str, Any]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}
