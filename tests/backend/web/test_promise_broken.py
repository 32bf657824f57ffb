"""After drift: annotators correct what is suggested, and every place where a person looks says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.connection.doctor import model as model_checks
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.backend.web.app import create_app
from tests.small_world import CONFIG, PATHS, image_bytes

TASKS = 24
PROJECT = {"id": 7, "label_config": CONFIG}


class Annotator:
    """A person who labels tasks of project "7" through the routes that Label Studio calls."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.client: FlaskClient = create_app(services.settings, services).test_client()
        folder = services.projects.get("7").image_folders[0].folders[0]
        self.tasks: list[dict[str, Any]] = []
        for number in range(1, TASKS + 1):
            (folder / f"later{number}.jpg").write_bytes(image_bytes(PATHS[number % 4], seed=1000 + number))
            data = {"image": str(folder / f"later{number}.jpg")}
            self.tasks.append({"id": number, "data": data, "created_at": "2026-11-20T09:00:00Z"})

    def predict(self) -> list[dict[str, Any]]:
        body = {"tasks": self.tasks, "project": "7.1795531934", "label_config": CONFIG, "params": {"context": None}}
        results: list[dict[str, Any]] = self.client.post("/predict", json=body).get_json()["results"]
        return results

    def annotate(self, task: dict[str, Any], path: tuple[str, ...]) -> None:
        at = (datetime.now(UTC) + timedelta(seconds=task["id"])).isoformat()
        region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [list(path)]}}
        annotation = {"id": task["id"], "task": task["id"], "completed_by": 3, "created_at": at, "updated_at": at}
        body = {
            "action": "ANNOTATION_CREATED",
            "project": PROJECT,
            "task": task,
            "annotation": annotation | {"lead_time": 3.0, "result": [region]},
        }
        assert self.client.post("/webhook", json=body).status_code == 201
        decide_all_dirty(self.services, "7")  # what the worker does within a second

    def metrics(self) -> str:
        return str(self.client.get("/metrics").get_data(as_text=True))


@pytest.fixture
def annotator(trained: Services) -> Annotator:
    trained.projects.update("7", settings=ProjectChoices(annotators=1))
    return Annotator(trained)


def test_after_drift_the_metrics_say_so(annotator: Annotator) -> None:
    answers = annotator.predict()
    assert all(answer["result"] for answer in answers)
    promise = 'taxonomist_promise_broken{control="colour",project="7",version="v1"}'
    assert f"{promise} 0.0" in annotator.metrics()
    for task in annotator.tasks:
        annotator.annotate(task, PATHS[(task["id"] + 1) % 4])  # never what was suggested
    text = annotator.metrics()
    assert f"{promise} 1.0" in text
    assert 'taxonomist_suggestion_floor{control="colour",project="7",version="v1"} +Inf' in text
    labels = 'blind="false",level="2",project="7",version="v1"'
    assert f"taxonomist_suggestions_answered{{{labels}}} {TASKS}.0" in text
    assert f"taxonomist_suggestions_right{{{labels}}} 0.0" in text
    assert not any(answer["result"] for answer in annotator.predict())


def test_status_and_doctor_say_so(annotator: Annotator) -> None:
    annotator.predict()
    annotator.annotate(annotator.tasks[0], PATHS[1])
    seen = {check.name: check for check in model_checks.checks(annotator.services, "7")}
    assert seen["model's promise"].status == "ok"
    assert seen["model's promise"].detail.startswith("1 of 1 suggestions were right")
    for task in annotator.tasks[1:]:
        annotator.annotate(task, PATHS[(task["id"] + 1) % 4])
    lines = list(status_lines(collect_status(annotator.services, "7")))
    assert f"    suggestions of level 2 that were shown: 1 of {TASKS} were right" in lines
    assert "    the promise for colour is broken" in lines
    assert max(map(len, lines)) < 120
    check = {check.name: check for check in model_checks.checks(annotator.services, "7")}["model's promise"]
    assert check.status == "warn"
    assert "nothing is suggested any more" in check.detail
    assert check.fix.startswith("taxonomist train --project 7")
