"""Passes, webhooks and exports of another Label Studio than the project's."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.label_studio.requests import parse_setup
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from tests.backend.labelling.conftest import A, B, C, labels, run
from tests.backend.labelling.test_label_studio_export import agreed, task, write
from tests.backend.labelling.test_label_studio_export import annotation as exported
from tests.label_studio_stand_in import BLUE, RED, SOURCE, StandIn
from tests.small_world import CONFIG


def test_another_label_studio_under_the_address_changes_nothing(connected: Services, label_studio: StandIn) -> None:
    """It started without its volume: the same address and token, and another project with this number."""
    tasks, annotations = dict(label_studio.tasks), dict(label_studio.annotations)
    label_studio.tasks.clear()
    label_studio.annotations.clear()
    label_studio.add_task(1, "/data/upload/4/stranger.jpg")
    label_studio.created_at, right = "2026-11-25T10:00:00Z", label_studio.created_at
    with pytest.raises(LabelStudioError, match="another Label Studio"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}
    assert connected.projects.get("4").source == SOURCE
    label_studio.created_at, label_studio.tasks, label_studio.annotations = right, tasks, annotations
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"


def test_an_export_of_another_label_studio_stays_beside_the_live_annotations(
    connected: Services, tmp_path: Any
) -> None:
    """Both count from 1, so many ids are the same; the last task has ids that only the export has."""
    ids = (1, 2, 3, 8)
    tasks = [agreed(id, BLUE) | {"data": {"image": f"/data/upload/9/{id}.jpg"}} for id in ids]
    done = import_export(connected, write(tmp_path, tasks), project="4")
    assert (done.images, done.accepted) == (4, 4)
    both = {A: RED, B: RED, C: RED} | {f"/data/upload/9/{id}.jpg": BLUE for id in ids}
    assert labels(connected) == both
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"
    assert labels(connected) == both


def test_annotators_of_two_sources_with_one_number_are_two_people(connected: Services, tmp_path: Any) -> None:
    theirs = [task(1, exported(1, 3, RED), exported(2, 5, BLUE)) | {"data": {"image": A}}]
    import_export(connected, write(tmp_path, theirs), project="4")
    (document,) = [found for found in connected.catalog.documents("4") if found.projects["4"].uri == A]
    people = {entry.annotator_id: entry.taxonomy for entry in document.labels_with_taxonomy}
    assert people == {3: [RED], 5: [RED], "3 of export.json": [RED], "5 of export.json": [BLUE]}
    assert document.projects["4"].detail == 'Named "Warm › Red" by 3 of 4.'
    assert document.projects["4"].task_id == "1"


def test_the_own_export_counts_nothing_twice(connected: Services, label_studio: StandIn, tmp_path: Any) -> None:
    label_studio.annotate(12, 1, 7, BLUE)
    run(connected)
    tasks = [
        {**task, "annotations": [found for found in label_studio.annotations.values() if found["task"] == id]}
        for id, task in label_studio.tasks.items()
    ]
    before = {document.id: document.labels_with_taxonomy for document in connected.catalog.documents("4")}
    import_export(connected, write(tmp_path, tasks), project="4")
    assert {document.id: document.labels_with_taxonomy for document in connected.catalog.documents("4")} == before
    del label_studio.annotations[10], label_studio.annotations[11]
    run(connected)
    assert labels(connected)[A] is None  # what was withdrawn in Label Studio does not live on in its export


def test_webhooks_of_another_label_studio_are_refused(
    connected: Services, label_studio: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    label_studio.created_at = "2026-11-25T10:00:00Z"
    label_studio.annotate(10, 1, 3, BLUE)
    receipt = UseCases(connected).receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", 10)))
    assert (receipt.new, receipt.known) == (0, 0)
    assert "another Label Studio" in (receipt.ignored or "")
    assert "another Label Studio" in caplog.text


def test_setup_of_another_label_studio_is_refused(connected: Services) -> None:
    use_cases = UseCases(connected)
    body = {"project": SOURCE, "schema": CONFIG}
    assert use_cases.set_up(parse_setup(body), authenticated=False, local=False)
    with pytest.raises(ConfigError, match="another Label Studio"):
        use_cases.set_up(parse_setup({**body, "project": "4.1795531999"}), authenticated=False, local=False)
    assert connected.projects.get("4").source == SOURCE


def test_connect_asks_before_another_project_takes_the_number(connected: Services, label_studio: StandIn) -> None:
    label_studio.created_at = "2026-11-25T10:00:00Z"
    label_studio.answers["/api/version"] = {"release": "1.23.2"}
    label_studio.answers["/api/current-user/whoami"] = {"id": 1, "email": "me@example.com", "username": "me"}
    asked: list[str] = []

    def connect(*, agree: bool) -> None:
        def may_replace(question: str) -> bool:
            asked.append(question)
            return agree

        connect_project(
            connected,
            "4",
            url=label_studio.url,
            api_key="t",
            ask=lambda question: True,
            say=lambda line: None,
            may_replace=may_replace,
        )

    with pytest.raises(ConfigError, match="was not connected"):
        connect(agree=False)
    assert connected.projects.get("4").source == SOURCE
    with pytest.raises(LabelStudioError):  # the stand-in has no ML backends
        connect(agree=True)
    assert connected.projects.get("4").source != SOURCE
    assert len(asked) == 2
    assert labels(connected) == {A: RED, B: RED, C: RED}
