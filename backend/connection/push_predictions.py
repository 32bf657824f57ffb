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
from taxonomist.backend.connection.old_predictions import has_draft, remove_old_predictions, replaceable, shown_versions
from taxonomist.backend.connection.withdraw_predictions import withdraw
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import Task, parse_predict
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.labelling_order import forget_places, has_order, place_images, places
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import in_batches
from taxonomist.progress import StepProgress
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import BadRequestError, LabelStudioError
from taxonomist.taxonomy.label_config import LabelConfig

log = logging.getLogger(__name__)

CHUNK = 100
_STORING_SHARE = 0.8  # of the progress; old predictions are removed in the rest


def push(services: Services, project: str, progress: StepProgress) -> str:
    """Announce the served version, and store its suggestion for every task without annotations.

    An empty suggestion is stored only where a task has an older prediction, which would be shown otherwise. Where the
    project has an order of labelling, each open task gets a prediction, since Label Studio offers no other, and the
    order is made anew. Tasks whose image cannot be read now are filled later. Predictions of old versions are then
    replaced or removed, see `old_predictions`. Return the outcome in one line.
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
            is_ordered = has_order(services, project)
            if is_ordered:
                progress("order of labelling", 0.0)
                place_images(services, project, predictor.backbone(project))
                _move(services, client, project, version)
            else:
                forget_places(services, project)
            tasks = client.tasks(project, unlabelled=True, lacking_version=version, with_predictions=True)
            for chunk in in_batches(tasks, CHUNK):
                seen += len(chunk)
                suggested += _push_chunk(
                    services, client, predictor, project, about.label_config, chunk, kept, stores_empty=is_ordered
                )
                share = min(1.0, seen / max(about.tasks - about.annotated_tasks, 1))
                progress("storing predictions", _STORING_SHARE * share)
            outcome = f"{suggested} of {seen} open tasks have a suggestion of {version}"
        if withdrawn := withdraw(services, client, predictor, project, about.label_config, version):
            outcome = f"{outcome}, {withdrawn} were withdrawn"
        removal = remove_old_predictions(
            services,
            client,
            project,
            version,
            lambda step, share: progress(step, _STORING_SHARE + (1 - _STORING_SHARE) * share),
        )
    return f"{outcome}, {removal}" if removal.removed or removal.left else outcome


def _push_chunk(
    services: Services,
    client: LabelStudioClient,
    predictor: Predictor,
    project: str,
    config: str,
    chunk: Sequence[dict[str, Any]],
    kept: Collection[str],
    *,
    stores_empty: bool,
) -> int:
    request = parse_predict({"tasks": list(chunk), "label_config": config, "project": project})
    predictions = predictor.predict_named(request)
    services.unfilled.add(project, predictions.unanswered, asked=False)
    services.suggestions.add(project, predictions.suggested)  # first: Label Studio's tasks are not asked for again
    new: list[Prediction] = []
    for found, task, answer in zip(chunk, request.tasks, predictions.answers, strict=True):
        if answer["result"] or ((task.total_predictions or stores_empty) and not task.unreadable):
            prediction = Prediction(task.id, answer["model_version"], answer["score"], answer["result"])
            if not _replaced(client, project, replaceable(found, kept), prediction):
                new.append(prediction)
    client.push_predictions(project, new)
    return sum(1 for answer in predictions.answers if answer["result"])


def _move(services: Services, client: LabelStudioClient, project: str, version: str) -> None:
    """Give the stored predictions of a version the places of their tasks, where these have changed."""
    config = services.label_config(project)
    for chunk in in_batches(client.tasks_with_version(project, version), CHUNK):
        open_tasks = [task for task in chunk if not task.get("annotations") and not has_draft(task)]
        request = parse_predict({"tasks": open_tasks, "label_config": "", "project": project})
        images = [_images(task, config) for task in request.tasks]
        for task, place in zip(open_tasks, places(services, project, images), strict=True):
            for stored in task["predictions"]:
                if stored.get("model_version") == version and stored.get("score") != place:
                    moved = Prediction(task["id"], version, place, stored.get("result") or [])
                    _update(client, project, int(stored["id"]), moved)


def _images(task: Task, config: LabelConfig) -> list[str]:
    try:
        return [image_id(uri) for uri in task.images(config).values()]
    except BadRequestError:
        return []


def _replaced(client: LabelStudioClient, project: str, stored: int | None, prediction: Prediction) -> bool:
    """Change the stored prediction to the new one; return whether there is one that could be changed."""
    return stored is not None and _update(client, project, stored, prediction)


def _update(client: LabelStudioClient, project: str, stored: int, prediction: Prediction) -> bool:
    """Change a stored prediction; return whether it could be changed."""
    try:
        client.update_prediction(project, stored, prediction)
    except LabelStudioError as error:  # it may have been deleted meanwhile
        log.warning("project %s: the prediction of task %s cannot be changed: %s", project, prediction.task_id, error)
        return False
    return True
