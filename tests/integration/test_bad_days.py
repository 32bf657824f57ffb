"""The worst days, from the wire to the label: a full disk, a task id used again, webhooks out of order."""

from __future__ import annotations

import copy
import resource
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import Journal
from tests.backend_process import BackendProcess
from tests.small_world import CONFIG


def annotation(number: int, task: int, image: str, path: list[str], *, minute: int, person: int = 1) -> dict[str, Any]:
    """Return an ANNOTATION_CREATED webhook; the task and the annotation were made at `minute`."""
    at = f"2026-11-24T10:{minute:02d}:00.000000Z"
    region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}
    return {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 4, "label_config": CONFIG},
        "task": {"id": task, "data": {"image": image}, "created_at": at},
        "annotation": {
            "id": number,
            "task": task,
            "completed_by": person,
            "created_at": at,
            "updated_at": at,
            "was_cancelled": False,
            "ground_truth": False,
            "result": [region],
        },
    }


def post(client: FlaskClient, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        assert client.post("/webhook", json=body).status_code == 201


def accepted(services: Services, image: str) -> list[list[str]] | None:
    decide_all_dirty(services, "4")
    document = services.catalog.get(image_id(image))
    if document is None or "4" not in document.projects:
        return None
    return document.projects["4"].accepted.get("colour", [])


OLD, NEW = "/data/upload/4/old.jpg", "/data/upload/4/new.jpg"


def test_a_deleted_tasks_id_is_used_again(client: FlaskClient, services: Services) -> None:
    post(client, *(annotation(n, 5, OLD, ["Warm", "Red"], minute=n, person=n) for n in (1, 2)))
    assert accepted(services, OLD) == [["Warm", "Red"]]
    post(client, {"action": "TASKS_DELETED", "project": {"id": 4, "label_config": CONFIG}, "tasks": [{"id": 5}]})
    assert accepted(services, OLD) is None
    later = "2099-01-01T00:00:00Z"  # the clock of the journal is today's: what comes after the deletion is newer
    again = [annotation(n, 5, NEW, ["Cold", "Blue"], minute=0, person=n) for n in (1, 2)]
    for body in again:
        body["task"]["created_at"] = body["annotation"]["created_at"] = body["annotation"]["updated_at"] = later
    post(client, *again)
    assert accepted(services, NEW) == [["Cold", "Blue"]]
    assert accepted(services, OLD) is None


def test_an_older_update_that_comes_late_changes_nothing(client: FlaskClient, services: Services) -> None:
    first = annotation(1, 5, OLD, ["Warm", "Red"], minute=1, person=1)
    update = copy.deepcopy(first) | {"action": "ANNOTATION_UPDATED"}
    update["annotation"] |= {"updated_at": "2026-11-24T10:30:00Z", "result": []}
    update["annotation"]["result"] = annotation(1, 5, OLD, ["Cold", "Green"], minute=1)["annotation"]["result"]
    post(client, annotation(2, 5, OLD, ["Cold", "Green"], minute=2, person=2), update, first, first)
    assert accepted(services, OLD) == [["Cold", "Green"]]


def test_a_deletion_that_comes_before_its_annotation(client: FlaskClient, services: Services) -> None:
    deleted = {
        "action": "ANNOTATIONS_DELETED",
        "project": {"id": 4, "label_config": CONFIG},
        "annotations": [{"id": 1}],
    }
    post(client, deleted, *(annotation(n, 5, OLD, ["Warm", "Red"], minute=n, person=n) for n in (1, 2)))
    assert accepted(services, OLD) == []


def test_an_unknown_path_is_reported_with_its_nearest_spelling(
    client: FlaskClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    post(client, *(annotation(n, 5, OLD, ["Warm", "Redd"], minute=n, person=n) for n in (1, 2)))
    assert accepted(services, OLD) == [["Warm"]]  # what is known of it is what both said
    assert "did you mean" in caplog.text
    assert "Warm › Red" in caplog.text


def test_one_broken_item_of_many_costs_the_others_nothing(client: FlaskClient, services: Services) -> None:
    good = annotation(1, 5, OLD, ["Warm", "Red"], minute=1)
    body = good | {
        "action": "ANNOTATIONS_CREATED",
        "annotation": [{"id": 9, "task": 5}, good["annotation"], {"task": 6}],
        "task": [{"id": 6, "data": {"image": None}}, good["task"], {"data": {}}],
    }
    answer = client.post("/webhook", json=body).get_json()
    assert answer["new"] == 2
    assert "task 6: it has no image" in answer["ignored"]
    services.journal.fold()
    assert [record.annotation_id for record in services.journal.annotations("4")] == ["1"]


@pytest.mark.slow
def test_a_full_disk_refuses_webhooks_and_passes(tmp_path: Path) -> None:
    """A webhook that cannot be committed is refused. The server runs on and accepts webhooks once there is room."""
    with BackendProcess(tmp_path / "home", arguments=("serve", "--no-worker")) as backend:
        assert backend.process is not None

        def send(number: int) -> int:
            body = annotation(number, number, f"/data/upload/4/{number}.jpg", ["Warm", "Red"], minute=1)
            return httpx.post(f"{backend.url}/webhook", json=body, timeout=30).status_code

        assert [send(number) for number in range(1, 6)] == [201] * 5
        (server,) = children(backend.process.pid)
        _, hard = resource.prlimit(server, resource.RLIMIT_FSIZE)
        resource.prlimit(server, resource.RLIMIT_FSIZE, (4096, hard))
        assert [send(number) for number in range(6, 11)] == [507] * 5
        assert httpx.get(f"{backend.url}/health").is_success
        resource.prlimit(server, resource.RLIMIT_FSIZE, (hard, hard))
        assert [send(number) for number in range(11, 16)] == [201] * 5
    with Journal(backend.home / "journal.sqlite") as journal:
        journal.fold()
        kept = {int(record.annotation_id) for record in journal.annotations("4")}
    assert kept == {*range(1, 6), *range(11, 16)}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
