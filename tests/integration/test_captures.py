"""Every recorded request of Label Studio gets a well-formed answer."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app


def send(client: FlaskClient, recorded: dict[str, Any]) -> Any:
    headers = {"User-Agent": recorded["agent"] or "", "Content-Type": "application/json"}
    if recorded["authorization"]:
        headers["Authorization"] = recorded["authorization"]
    return client.open(recorded["path"], method=recorded["method"], json=recorded["body"], headers=headers)


def check(recorded: dict[str, Any], answer: Any, versions: dict[str, str]) -> None:
    body = answer.get_json()
    match recorded["path"]:
        case "/health":
            assert body["status"] == "UP"
        case "/setup":
            assert isinstance(body["model_version"], str)
            versions[recorded["body"]["project"]] = body["model_version"]
        case "/predict":
            check_predictions(recorded["body"], body["results"], versions)
        case "/webhook":
            assert body["status"] == "ok"
            if recorded["body"]["action"] == "START_TRAINING":
                assert isinstance(body["job"], str)
                assert body["job"]
        case "/versions":
            assert isinstance(body["versions"], list)
        case other:
            pytest.fail(f"nothing says what is right for {other}")


def check_predictions(body: dict[str, Any], results: list[dict[str, Any]], versions: dict[str, str]) -> None:
    assert len(results) == len(body["tasks"])
    for result in results:
        assert set(result) == {"model_version", "score", "result"}
        assert isinstance(result["result"], list)
        assert 0 <= result["score"] <= 1
        assert result["model_version"] == versions.get(body["project"], result["model_version"])


def test_all_captures(client: FlaskClient, captures: list[dict[str, Any]]) -> None:
    versions: dict[str, str] = {}
    for recorded in captures:
        answer = send(client, recorded | {"authorization": None})  # some have the password of another server
        assert 200 <= answer.status_code < 300, (recorded["capture"], answer.get_data(as_text=True))
        check(recorded, answer, versions)
    assert len(captures) > 200


def test_captures_leave_what_label_studio_said(
    client: FlaskClient, services: Services, captures: list[dict[str, Any]]
) -> None:
    """The journal then has the annotations of Label Studio's own export of project 4: three people, five tasks."""
    for recorded in captures:
        if recorded["path"] == "/webhook":
            send(client, recorded)
    services.journal.fold()
    annotations = list(services.journal.annotations("4"))
    assert len(annotations) == 15
    assert {str(record.data["completed_by"]) for record in annotations} == {"3", "4", "5"}
    assert len({record.image_id for record in annotations}) == 5


def test_replaying_twice_changes_nothing(
    client: FlaskClient, services: Services, captures: list[dict[str, Any]]
) -> None:
    saved = [hook for hook in captures if hook["path"] == "/webhook" and "ANNOTATION_" in hook["body"]["action"]]
    for recorded in saved:
        send(client, recorded)
    services.journal.fold()
    before = [record.data for record in services.journal.annotations("4")]
    for recorded in reversed(saved):
        assert send(client, recorded).get_json()["new"] == 0
    services.journal.fold()
    assert [record.data for record in services.journal.annotations("4")] == before


def test_recorded_credentials(services: Services, captures: list[dict[str, Any]]) -> None:
    """With a password set, recorded calls without it or with a wrong one are refused; /health is always answered."""
    settings = Settings(home=services.settings.home, username="bob", password="secret")
    client = create_app(settings).test_client()
    for recorded in captures:
        answer = send(client, recorded)
        right = recorded["path"] == "/health" or recorded["authorization"] == "Basic Ym9iOnNlY3JldA=="
        assert (answer.status_code < 300) == right, recorded["capture"]
        assert right or answer.status_code == 401
