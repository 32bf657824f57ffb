"""Withdraw: stored suggestions of the served version that its broken promise no longer allows are replaced.

Label Studio shows what it has stored, whatever the server would answer today.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from taxonomist.backend.connection.old_predictions import has_draft
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import in_batches
from taxonomist.taxonomy.errors import LabelStudioError

log = logging.getLogger(__name__)

CHUNK = 100
Found = tuple[dict[str, Any], int]


def withdraw(
    services: Services, client: LabelStudioClient, predictor: Predictor, project: str, label_config: str, version: str
) -> int:
    """Replace the stored suggestions of a version that lie below its floors, and return how many were.

    A task gets what the version suggests with its risen thresholds, or the empty prediction. One with an annotation or
    a draft keeps what a person has seen. What is replaced was not shown, as far as it is known, so it is not answered.
    """
    floors = services.suggestions.floors(project, version)
    replaced = 0
    if not floors:
        return replaced
    config = services.label_config(project)  # a control may have another name since the version was trained
    floors |= {config.present(control): floor for control, floor in floors.items()}
    for chunk in in_batches(_below(client.tasks_with_version(project, version), version, floors), CHUNK):
        tasks = [task for task, _ in chunk]
        request = parse_predict({"tasks": tasks, "label_config": label_config, "project": project})
        predictions = predictor.predict_named(request)
        services.suggestions.delete(project=project, task_ids=[str(task["id"]) for task in tasks], version=version)
        services.suggestions.add(project, predictions.suggested)
        for (_, stored), task, answer in zip(chunk, request.tasks, predictions.answers, strict=True):
            prediction = Prediction(task.id, answer["model_version"], answer["score"], answer["result"])
            try:
                client.update_prediction(project, stored, prediction)
                replaced += 1
            except LabelStudioError as error:  # it may have been deleted meanwhile
                log.warning("project %s: the suggestion of task %s stays: %s", project, task.id, error)
    if replaced:
        log.info("project %s: %d suggestions of %s were withdrawn", project, replaced, version)
    return replaced


def _below(tasks: Iterator[dict[str, Any]], version: str, floors: Mapping[str, float]) -> Iterator[Found]:
    """Yield the open tasks with a region below its floor, and the prediction that has it."""
    for task in tasks:
        if task.get("annotations") or has_draft(task):
            continue
        for prediction in task.get("predictions") or []:
            if prediction.get("model_version") == version and any(
                isinstance(region, Mapping)
                and (region.get("score") or 0.0) < floors.get(region.get("from_name", ""), 0.0)
                for region in prediction.get("result") or []
            ):
                yield task, int(prediction["id"])
                break
