"""Push: store the suggestions of the served model for tasks that have no annotation.

Label Studio asks a backend for a task only in the label stream, or while the task has no prediction at all. Without a
push, tasks that an older version has pre-filled would keep its suggestion after a promotion.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from taxonomist.backend.connection.announce import announce_version
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress

CHUNK = 100


def push(services: Services, project: str, progress: StepProgress) -> str:
    """Announce the served version, and store its suggestion for every task without annotations.

    An empty suggestion is stored only where a task has an older prediction, which would be shown otherwise. Tasks whose
    image cannot be read now are filled later. Return the outcome in one line.
    """
    predictor = Predictor(services)
    version = predictor.model_version(project)
    announce_version(services, project)
    if not services.settings.push_predictions:
        return f"Label Studio shows {version}"
    suggested = seen = 0
    with services.open_label_studio(project) as client:
        about = client.project(project)
        check_source(services, about, client.url)
        for chunk in _chunks(client.tasks(project, unlabelled=True, lacking_version=version)):
            seen += len(chunk)
            suggested += _push_chunk(services, client, predictor, project, about.label_config, chunk)
            progress("storing predictions", min(1.0, seen / max(about.tasks - about.annotated_tasks, 1)))
    return f"{suggested} of {seen} open tasks have a suggestion of {version}"


def _push_chunk(
    services: Services,
    client: LabelStudioClient,
    predictor: Predictor,
    project: str,
    config: str,
    chunk: list[dict[str, Any]],
) -> int:
    request = parse_predict({"tasks": chunk, "label_config": config, "project": project})
    predictions, unanswered = predictor.predict_named(request)
    services.unfilled.add(project, unanswered, asked=False)
    client.push_predictions(
        project,
        [
            Prediction(task.id, prediction["model_version"], prediction["score"], prediction["result"])
            for task, prediction in zip(request.tasks, predictions, strict=True)
            if prediction["result"] or (task.total_predictions and not task.unreadable)
        ],
    )
    return sum(1 for prediction in predictions if prediction["result"])


def _chunks(tasks: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(tasks, CHUNK)):
        yield chunk
