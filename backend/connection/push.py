"""Writes the new model's suggestions to tasks that nobody has annotated yet.

Label Studio asks a backend for a task only while the task has no prediction at all, or in the label stream. After a
promotion the tasks that were pre-filled by an older version would otherwise keep its suggestion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from taxonomist.backend.connection.announce import announce_version
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import PredictRequest, Task
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services

CHUNK = 100


def push(services: Services, project: str, progress: Callable[[str, float], None]) -> str:
    """Tell Label Studio the version that is served, and store its suggestion for every task without annotations.

    Where the model suggests nothing, that is stored only for a task that has an older suggestion: it would be shown on.
    Returns one line.
    """
    predictor = Predictor(services)
    version = predictor.model_version(project)
    announce_version(services, project)
    if not services.settings.push_predictions:
        return f"Label Studio shows {version}"
    suggested = seen = 0
    with services.open_label_studio(project) as client:
        about = client.project(project)
        for chunk in _chunks(client.tasks(project, unlabelled=True, lacking_version=version)):
            seen += len(chunk)
            suggested += _push_chunk(client, predictor, project, about.label_config, chunk)
            progress("storing predictions", min(1.0, seen / max(about.tasks - about.annotated_tasks, 1)))
    return f"{suggested} of {seen} open tasks have a suggestion of {version}"


def _push_chunk(
    client: LabelStudioClient, predictor: Predictor, project: str, config: str, chunk: list[dict[str, Any]]
) -> int:
    tasks = [Task.model_validate(task) for task in chunk]
    answers = predictor.predict(PredictRequest(tasks=tasks, label_config=config, project=project))
    client.push_predictions(
        project,
        [
            Prediction(task.id, answer["model_version"], answer["score"], answer["result"])
            for task, answer in zip(tasks, answers, strict=True)
            if answer["result"] or task.total_predictions
        ],
    )
    return sum(1 for answer in answers if answer["result"])


def _chunks(tasks: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(tasks, CHUNK)):
        yield chunk
