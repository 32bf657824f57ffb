"""Images of two Label Studios that share an id: nothing is renamed, but a person sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.connection.doctor.result import Check
from taxonomist.backend.connection.doctor.shared_images import NAME
from taxonomist.backend.services import Services
from taxonomist.storage.journal import TaskSaved

FIRST, SECOND = "http://first.example:8080", "http://second.example:8080"
LOCAL = "/data/local-files/?d=set/a.jpg"


def check(
    services: Services, projects: Mapping[str, tuple[str | None, list[str]]], outer: tuple[str, ...] = ()
) -> Check | None:
    """Return the check of project 4, with the Label Studio and the tasks' addresses of each project."""
    now = datetime.now(UTC)
    for project, (url, uris) in projects.items():
        services.projects.update(project, label_studio_url=url, label_studio_addresses=outer)
        services.journal.record(
            [TaskSaved(project, f"{project}.1", str(number), uri, now, now, {}) for number, uri in enumerate(uris)]
        )
    services.journal.fold()
    return next((check for check in run_checks(services, "4") if check.name == NAME), None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LOCAL, LOCAL),
        (f"{FIRST}{LOCAL}", f"{SECOND}{LOCAL}"),
        (f"{FIRST}{LOCAL}", LOCAL),
        (f"{FIRST}/data/upload/12/front.jpg", f"{SECOND}/data/upload/12/front.jpg"),
    ],
)
def test_one_path_in_two_label_studios(services: Services, first: str, second: str) -> None:
    found = check(services, {"4": (FIRST, [first]), "5": (SECOND, [second])})
    assert found is not None
    assert found.status == "warn"
    assert f"read from {FIRST} and from {SECOND}" in found.detail


def test_two_hosts_in_one_project(services: Services) -> None:
    uris = [f"https://cdn.example/{kind}/data/upload/12/front.jpg" for kind in ("tables", "chairs")]
    found = check(services, {"4": (FIRST, uris)})
    assert found is not None
    assert "1 counted as one, such as 12/front.jpg, read from https://cdn.example/chairs and from" in found.detail


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((FIRST, [LOCAL]), (FIRST + "/", [f"{FIRST}{LOCAL}"])),
        ((FIRST, [LOCAL]), (SECOND, ["/data/local-files/?d=set/b.jpg"])),
        ((FIRST, ["/data/upload/4/0a1b2c3d-x.jpg"]), (SECOND, [f"{SECOND}/data/upload/4/0a1b2c3d-x.jpg"])),
        ((None, [LOCAL]), (None, [LOCAL])),
    ],
)
def test_other_images_are_not_reported(
    services: Services, first: tuple[str | None, list[str]], second: tuple[str | None, list[str]]
) -> None:
    found = check(services, {"4": first, "5": second})
    assert found is None or found.status == "ok"


def test_two_addresses_of_one_label_studio(services: Services) -> None:
    outer = ("https://labels.example",)
    projects = {"4": (FIRST, [LOCAL]), "5": (outer[0], [f"{outer[0]}{LOCAL}"])}
    found = check(services, projects, outer)
    assert found is not None
    assert found.status == "ok"
