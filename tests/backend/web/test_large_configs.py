"""Labelling configs that exceed the limits are refused by every route that takes one, and nothing kept changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.taxonomy.label_config import write_label_config
from tests.backend.web.serving import serving
from tests.small_world import CONFIG

WIDE = write_label_config([(f"node {number}",) for number in range(80_000)])
DEEP = CONFIG.replace('<Choice value="Red"/>', '<Choice value="n">' * 80 + "</Choice>" * 80)
LONG = CONFIG + "<!--" + "x" * 4_000_000 + "-->"
REASONS = {WIDE: "80,000 choices; at most 50,000", DEEP: "levels of choices; at most 64", LONG: "at most 4,000,000"}


@pytest.fixture
def bodies(captures: list[dict[str, Any]]) -> dict[str, Callable[[str], dict[str, Any]]]:
    """By route and action, makes the body with a labelling config. All are of project 1."""
    recorded = {found["capture"]: found["body"] for found in captures if found["path"] == "/webhook"}

    def webhook(capture: str) -> Callable[[str], dict[str, Any]]:
        def make(xml: str) -> dict[str, Any]:
            body: dict[str, Any] = copy.deepcopy(recorded[capture])
            body["project"]["label_config"] = xml
            return body

        return make

    created = str(recorded["12-annotation-created"]["project"]["created_at"])
    assert created
    found = {
        f"/webhook {capture}": webhook(capture)
        for capture, body in recorded.items()
        if isinstance(body.get("project"), dict)
    }
    found["/setup"] = lambda xml: {"project": "5", "schema": xml, "hostname": "", "access_token": "t"}
    found["/predict"] = lambda xml: {"tasks": [], "project": "5", "label_config": xml}
    return found


@pytest.mark.parametrize("xml", REASONS, ids=["wide", "deep", "long"])
def test_no_route_takes_one(services: Services, bodies: dict[str, Callable[[str], dict[str, Any]]], xml: str) -> None:
    client: FlaskClient = create_app(services.settings, services).test_client()
    for make in bodies.values():
        assert client.post(_path(bodies, make), json=make(CONFIG)).status_code < 300
    records = {record.project: record for record in Services(services.settings).projects}
    position, journal = services.journal.position(), services.journal.pending()
    for make in bodies.values():
        answer = client.post(_path(bodies, make), json=make(xml))
        assert answer.status_code == 400
        assert REASONS[xml] in answer.get_json()["error"]
    assert {record.project: record for record in Services(services.settings).projects} == records
    assert (services.journal.position(), services.journal.pending()) == (position, journal)


LIMITS = {
    "50,000 choices": lambda over: write_label_config([(f"node {number}",) for number in range(50_000 + over)]),
    "64 levels": lambda over: write_label_config([tuple(f"level {number}" for number in range(64 + over))]),
}


@pytest.mark.parametrize("config", LIMITS.values(), ids=LIMITS.keys())
def test_the_largest_config_is_taken_by_every_route_and_no_larger_one(
    services: Services, bodies: dict[str, Callable[[str], dict[str, Any]]], config: Callable[[int], str]
) -> None:
    routes = [name for name in bodies if name in {"/setup", "/predict", "/webhook 12-annotation-created"}]
    assert len(routes) == 3
    with serving(services, services.settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for over, statuses in ((0, {200, 201}), (1, {400})):
            xml = config(over)
            answers = {name: client.post(name.partition(" ")[0], json=bodies[name](xml), timeout=60) for name in routes}
            assert {answer.status_code for answer in answers.values()} <= statuses, answers
    assert {services.projects.get(project).label_config for project in ("1", "5")} == {config(0)}


def _path(bodies: dict[str, Callable[[str], dict[str, Any]]], make: Callable[[str], dict[str, Any]]) -> str:
    return next(name for name, found in bodies.items() if found is make).partition(" ")[0]
