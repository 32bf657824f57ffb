"""Fill: store the suggestions for tasks that got an empty answer for want of time, or of their image.

Label Studio stores the empty answer under the served version and never asks for that version again. Such a prediction
is changed in place, so that no task has two predictions of one version.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.label_studio.records import Prediction
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.labelling_order import has_order
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.state.unfilled import UnfilledTask
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import LabelStudioError

log = logging.getLogger(__name__)

CHUNK = 50
SAVING_S = 600.0  # Label Studio took 219 s to save 1200 predictions of one answer


def fill(services: Services, project: str, progress: StepProgress) -> str:
    """Fill the project's unfilled tasks that are due. Return the outcome in one line.

    A task whose image still cannot be read is tried again later. One that is annotated or gone needs no answer.
    """
    predictor = Predictor(services)
    due = services.unfilled.due(project)
    # Before the work: when it fails, the tasks are not due again at once.
    services.unfilled.postpone(project, [task.task_id for task in due])
    filled = postponed = 0
    with services.open_label_studio(project) as client:
        about = client.project(project)
        check_source(services, about, client.url)
        for start in range(0, len(due), CHUNK):
            filling = _Filling(services, predictor, client, project)
            filling.look_at(due[start : start + CHUNK])
            filling.predict(about.label_config)
            filled, postponed = filled + filling.filled, postponed + len(filling.later)
            progress("storing predictions", min(1.0, (start + CHUNK) / max(len(due), 1)))
    return f"{filled} of {len(due)} unfilled tasks have a suggestion now, {postponed} are tried again later"


class _Filling:
    """The work on some unfilled tasks: `later` are tried again, the others are done."""

    def __init__(self, services: Services, predictor: Predictor, client: LabelStudioClient, project: str) -> None:
        self._services, self._unfilled, self._predictor = services, services.unfilled, predictor
        self._client, self._project = client, project
        self._version = predictor.model_version(project)
        self._has_order = has_order(services, project)
        self._stored: dict[str, int | None] = {}  # by task: the id of the empty prediction that it has
        self._tasks: list[dict[str, Any]] = []
        self.later: list[str] = []
        self.filled = 0

    def look_at(self, due: Sequence[UnfilledTask]) -> None:
        """Sort the tasks into those to predict, those to try later, and those that are done."""
        done = []
        for unfilled in due:
            try:
                task = self._client.task(self._project, unfilled.task_id)
            except LabelStudioError as error:  # it costs this task only
                log.warning("project %s: task %s is tried again later: %s", self._project, unfilled.task_id, error)
                self.later.append(unfilled.task_id)
                continue
            if task is not None and str(task.get("project")) != self._project:
                task = None  # Label Studio numbers tasks over all projects, and this one moved or never was ours
            own = [found for found in (task or {}).get("predictions") or [] if self._is_own(found)]
            if task is None or task.get("annotations") or any(found.get("result") for found in own):
                done.append(unfilled.task_id)
            elif not own and time.time() - unfilled.asked_at < SAVING_S:
                self.later.append(unfilled.task_id)  # Label Studio may be storing the answer at this moment
            else:
                self._tasks.append(task)
                self._stored[unfilled.task_id] = int(own[0]["id"]) if own else None
        self._unfilled.remove(self._project, done)

    def predict(self, label_config: str) -> None:
        """Predict the tasks and store the suggestions."""
        request = parse_predict({"tasks": self._tasks, "label_config": label_config, "project": self._project})
        predictions = self._predictor.predict_named(request)
        self._services.suggestions.add(self._project, predictions.suggested)  # first: tasks with a result are done
        new: list[Prediction] = []
        done = []
        for task, answer in zip(request.tasks, predictions.answers, strict=True):
            name = str(task.id)
            if name in predictions.unanswered:
                self.later.append(name)
                continue
            prediction = Prediction(task.id, answer["model_version"], answer["score"], answer["result"])
            stored = self._stored[name]
            if answer["result"] and stored is not None:
                try:
                    self._client.update_prediction(self._project, stored, prediction)
                except LabelStudioError as error:
                    log.warning("project %s: task %s is tried again later: %s", self._project, name, error)
                    self.later.append(name)
                    continue
            elif answer["result"] or (self._has_order and stored is None):
                new.append(prediction)
            self.filled += bool(answer["result"])
            done.append(name)
        self._client.push_predictions(self._project, new)
        self._unfilled.remove(self._project, done)

    def _is_own(self, prediction: Mapping[str, Any]) -> bool:
        return prediction.get("model_version") == self._version
