"""Push: store the suggestions of the served model for tasks that have no annotation, and remove those of old versions.
Those that a broken promise no longer allows are withdrawn.

Label Studio asks a backend for a task only in the label stream, or while the task has no prediction at all. Without a
push, tasks that an older version has pre-filled would keep its suggestion after a promotion.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from taxonomist.backend.connection.announce import announce_version
from taxonomist.backend.connection.old_predictions import remove_old_predictions, replaceable, shown_versions
from taxonomist.backend.connection.withdraw_predictions import withdraw
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import in_batches
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import LabelStudioError

log = logging.getLogger(__name__)

CHUNK = 100


def push(services: Services, project: str, progress: StepProgress) -> str:
    """Announce the served version, and store its suggestion for every task without annotations.

    An empty suggestion is stored only where a task has an older prediction, which would be shown otherwise. Tasks whose
    image cannot be read now are filled later. Predictions of old versions are then replaced or removed, see
    `old_predictions`. Return the outcome in one line.
    """
    predictor = Predictor(services)
    version = predictor.model_version(project)
    announce_version(services, project)
    outcome = f"Label Studio shows {version}"
    suggested = seen = 0
    with services.open_label_studio(project) as client:
        about = client.project(project)
        check_source(services, about, client.url)
        if services.settings.push_predictions:
            kept = shown_versions(services, project, version)
            tasks = client.tasks(project, unlabelled=True, lacking_version=version, with_predictions=True)
            for chunk in in_batches(tasks, CHUNK):
                seen += len(chunk)
                suggested += _push_chunk(services, client, predictor, project, about.label_config, chunk, kept)
                progress("storing predictions", min(1.0, seen / max(about.tasks - about.annotated_tasks, 1)))
            outcome = f"{suggested} of {seen} open tasks have a suggestion of {version}"
        if withdrawn := withdraw(services, client, predictor, project, about.label_config, version):
            outcome = f"{outcome}, {withdrawn} were withdrawn"
        removal = remove_old_predictions(services, client, project, version, progress)
    return f"{outcome}, {removal}" if removal.removed or removal.left else outcome


def _push_chunk(
    services: Services,
    client: LabelStudioClient,
    predictor: Predictor,
    project: str,
    config: str,
    chunk: Sequence[dict[str, Any]],
    kept: Collection[str],
) -> int:
    request = parse_predict({"tasks": list(chunk), "label_config": config, "project": project})
    predictions = predictor.predict_named(request)
    services.unfilled.add(project, predictions.unanswered, asked=False)
    services.suggestions.add(project, predictions.suggested)  # first: Label Studio's tasks are not asked for again
    new: list[Prediction] = []
    for found, task, answer in zip(chunk, request.tasks, predictions.answers, strict=True):
        if answer["result"] or (task.total_predictions and not task.unreadable):
            prediction = Prediction(task.id, answer["model_version"], answer["score"], answer["result"])
            if not _replaced(client, project, replaceable(found, kept), prediction):
                new.append(prediction)
    client.push_predictions(project, new)
    return sum(1 for answer in predictions.answers if answer["result"])


def _replaced(client: LabelStudioClient, project: str, stored: int | None, prediction: Prediction) -> bool:
    """Change the stored prediction to the new one; return whether there is one that could be changed."""
    if stored is None:
        return False
    try:
        client.update_prediction(project, stored, prediction)
    except LabelStudioError as error:  # it may have been deleted meanwhile
        log.warning("project %s: task %s gets a new prediction: %s", project, prediction.task_id, error)
        return False
    return True
