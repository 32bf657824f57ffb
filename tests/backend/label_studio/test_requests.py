"""Bodies of /predict and webhooks with something odd in them: it costs itself only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taxonomist.backend.label_studio.requests import Task, parse_predict, parse_setup, project_id
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.storage.journal import AnnotationSaved, TaskSaved
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import parse_label_config
from tests.small_world import CONFIG

GOOD: dict[str, Any] = {"id": 5, "data": {"image": "/data/upload/4/a.jpg"}}
WITHOUT_IMAGE = [
    {"id": 6, "data": None},
    {"id": 6},
    {"id": 6, "data": {}},
    {"id": 6, "data": {"image": None}},
    {"id": 6, "data": ["a.jpg"]},
    {"id": 6, "data": "a.jpg"},
    {"data": {"image": "a.jpg"}},
    {"id": None, "data": {"image": "a.jpg"}},
    {"id": {"a": 1}, "data": {"image": "a.jpg"}},
    {"id": "9" * 5000, "data": {"image": "a.jpg"}},
    {"id": 10**4000, "data": {"image": "a.jpg"}},
    {"id": 6, "data": {"image": "/data/upload/4/" + "a" * 5_000_000}},
    {"id": 6, "data": {"image": "data:image/png;base64," + "A" * 5000}},
    None,
    7,
    "task",
    [],
]
USABLE = [
    {"total_predictions": None},
    {"total_predictions": "many"},
    {"total_predictions": -1.5},
    {"created_at": None},
    {"created_at": "2026-11-24T10:00:00"},
    {"created_at": "yesterday"},
    {"created_at": 5},
    {"created_at": {}, "updated_at": []},
    {"annotations": None, "predictions": None, "meta": None},
]


def predict(*tasks: object) -> list[Task]:
    return parse_predict({"tasks": list(tasks), "label_config": CONFIG, "project": "4.1795531934"}).tasks


@pytest.mark.parametrize("odd", WITHOUT_IMAGE)
def test_an_odd_task_costs_itself_only(odd: object) -> None:
    config = parse_label_config(CONFIG)
    first, second, third = predict(GOOD, odd, GOOD)
    assert first.images(config) == third.images(config) == {"image": "/data/upload/4/a.jpg"}
    with pytest.raises(BadRequestError, match="task"):
        second.images(config)


@pytest.mark.parametrize("odd", USABLE)
def test_odd_times_and_counts_cost_nothing(odd: dict[str, Any]) -> None:
    (task,) = predict(GOOD | odd)
    assert task.images(parse_label_config(CONFIG)) == {"image": "/data/upload/4/a.jpg"}
    assert task.created_at is None or task.created_at.tzinfo is not None


def test_a_time_without_a_zone_is_in_utc() -> None:
    (task,) = predict(GOOD | {"created_at": "2026-11-24T10:00:00"})
    assert task.created_at == datetime(2026, 11, 24, 10, tzinfo=UTC)


@pytest.mark.parametrize("tasks", [None, {}, "tasks", 5])
def test_tasks_that_are_no_list_are_refused(tasks: object) -> None:
    with pytest.raises(BadRequestError, match="tasks"):
        parse_predict({"tasks": tasks, "label_config": CONFIG, "project": 4})


@pytest.mark.parametrize("project", [None, True, [], {}, {"id": 4}, "", ".", "../x"])
def test_a_project_that_is_none_is_refused(project: object) -> None:
    with pytest.raises(BadRequestError):
        project_id(project)
    with pytest.raises(BadRequestError, match="project"):
        parse_predict({"tasks": [GOOD], "label_config": CONFIG, "project": project})
    with pytest.raises(BadRequestError, match="project"):
        parse_setup({"project": project, "schema": CONFIG})
    with pytest.raises(BadRequestError, match="project"):
        parse_webhook({"action": "START_TRAINING", "project": project if project != {"id": 4} else None})


@pytest.mark.parametrize(("project", "number"), [(4, "4"), ("4", "4"), ("4.1795531934", "4"), (4.1795531934, "4")])
def test_forms_of_a_project(project: object, number: str) -> None:
    assert project_id(project) == number


def test_predict_answers_each_task(trained: Services) -> None:
    (document, *_) = trained.catalog.documents("7")
    good = {"id": 1, "data": {"image": document.projects["7"].uri}}
    client = create_app(trained.settings, trained).test_client()
    body = {"tasks": [good, *WITHOUT_IMAGE, good], "project": "7.1795531934", "label_config": CONFIG, "params": {}}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    results = answer.get_json()["results"]
    assert [bool(result["result"]) for result in results] == [True, *[False] * len(WITHOUT_IMAGE), True]
    assert client.post("/predict", json={**body, "project": None}).status_code == 400
    assert not [record for record in trained.projects if record.project == "None"]


# --- webhooks


def annotation(**changes: object) -> dict[str, Any]:
    saved = {"id": 9, "task": 5, "created_at": "2026-11-24T10:00:00Z", "updated_at": "2026-11-24T10:00:00Z"}
    return {**saved, "completed_by": 1, "result": [], **changes}


HUGE = "wide\n" * 20_000


@pytest.mark.parametrize(
    "body",
    [
        {"action": HUGE},
        {"action": HUGE, "project": 4},
        {"action": "ANNOTATION_CREATED", "project": HUGE},
        {"action": "ANNOTATION_CREATED", "project": {"id": HUGE, "label_config": [HUGE]}},
        {"action": "ANNOTATION_CREATED", "project": 4, "task": GOOD, "annotation": annotation(id=HUGE, task=HUGE)},
        {"action": "ANNOTATION_CREATED", "project": 4, "task": GOOD, "annotation": annotation(id=HUGE)},
        {"action": "TASK_CREATED", "project": 4, "task": GOOD | {"id": HUGE}},
        {"action": "TASK_CREATED", "project": 4, "task": GOOD | {"data": {HUGE: HUGE}}},
    ],
)
def test_no_message_has_a_long_value(body: dict[str, Any]) -> None:
    try:
        message = parse_webhook(body, known_config=lambda project: CONFIG).ignored
    except BadRequestError as error:
        message = str(error)
    assert message
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize("project", [4, "4", "4.1795531934", {"id": 4}, {"id": 4, "label_config": ""}])
def test_a_webhook_with_only_a_project_number_uses_the_known_config(project: object) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": project, "task": GOOD, "annotation": annotation()}
    unknown = parse_webhook(body)
    assert unknown.events == ()
    assert "came without the project's labelling config" in str(unknown.ignored)
    known = parse_webhook(body, known_config={"4": CONFIG}.get)
    assert [type(event) for event in known.events] == [TaskSaved, AnnotationSaved]
    assert known.ignored is None
    assert known.label_config is None  # nothing new to store


def test_the_server_knows_the_config_of_a_connected_project(services: Services) -> None:
    services.projects.update("4", label_config=CONFIG)
    client = create_app(services.settings, services).test_client()
    body = {"action": "ANNOTATION_CREATED", "project": 4, "task": GOOD, "annotation": annotation()}
    assert client.post("/webhook", json=body).get_json() == {"status": "ok", "new": 2, "ignored": None}
    assert "without" in client.post("/webhook", json={**body, "project": 5}).get_json()["ignored"]


@pytest.mark.parametrize("action", ["ANNOTATION_REVIEWED", "annotation_created", "X" * 500])
def test_an_unknown_action_is_logged_with_its_name(
    services: Services, caplog: pytest.LogCaptureFixture, action: str
) -> None:
    client = create_app(services.settings, services).test_client()
    answer = client.post("/webhook", json={"action": action, "project": {"id": 4, "label_config": CONFIG}})
    assert answer.status_code == 201
    assert action[:60] in answer.get_json()["ignored"]
    assert action[:60] in caplog.text
    assert "not known" in caplog.text


@pytest.mark.parametrize("id", ["9" * 5000, 10**4000])
@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED", "TASKS_CREATED"])
def test_an_id_that_is_far_too_long_costs_that_item_only(action: str, id: int | str) -> None:
    body = {
        "action": action,
        "project": {"id": 4, "label_config": CONFIG},
        "task": GOOD,
        "tasks": [{**GOOD, "id": id}],
        "annotation": annotation(),
        "annotations": [annotation(id=id)],
    }
    webhook = parse_webhook(body)
    assert "characters" in str(webhook.ignored)
    assert webhook.events
    assert len(str(webhook.events)) < 2000


@pytest.mark.parametrize("label_config", [5, ["<View/>"], {"a": 1}, True])
def test_a_labelling_config_that_is_no_text_is_refused(services: Services, label_config: object) -> None:
    client = create_app(services.settings, services).test_client()
    answer = client.post(
        "/webhook", json={"action": "PROJECT_UPDATED", "project": {"id": 4, "label_config": label_config}}
    )
    assert answer.status_code == 400
    assert "not a text" in answer.get_json()["error"]
    assert not services.projects.exists("4")


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "LABEL_LINK_CREATED", "START_TRAINING"])
def test_actions_without_events_are_not_called_unknown(action: str) -> None:
    assert parse_webhook({"action": action, "project": {"id": 4, "label_config": CONFIG}}).ignored is None
