"""The findings of an audit as a tab of Label Studio, as a table for spreadsheets, and for several controls."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.prediction.label_checks import (
    MOST_IN_TAB,
    TAB,
    LabelFinding,
    show_in_label_studio,
    write_findings,
)
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from tests.label_studio_stand_in import StandIn

FINDING = LabelFinding(
    "id", "a.jpg", "3", "colour", "views", (("Warm", "Red"),), (("Cold",),), "b.jpg", (3, 1), 0.1, 0.8
)


@pytest.fixture
def label_studio(services: Services) -> Iterator[StandIn]:
    with StandIn() as label_studio:
        services.projects.update("4", label_studio_url=label_studio.url, api_key=SecretStr("token"))
        yield label_studio


def shown(label_studio: StandIn) -> dict[str, list[int]]:
    """Return the tasks of each tab by its title."""
    tabs = [tab["data"] for tab in label_studio.tabs.values()]
    return {tab["title"]: [item["value"] for item in tab.get("filters", {}).get("items", [])] for tab in tabs}


def test_the_tab_shows_each_task_once_and_replaces_the_earlier_one(services: Services, label_studio: StandIn) -> None:
    label_studio.tabs[1] = {"id": 1, "project": 4, "data": {"title": "mine"}}
    findings = [
        FINDING,
        replace(FINDING, control="size"),
        replace(FINDING, task_id="5"),
        replace(FINDING, task_id=None),
    ]
    assert show_in_label_studio(services, "4", findings) == 2
    assert shown(label_studio) == {"mine": [], TAB: [3, 5]}
    assert show_in_label_studio(services, "4", [replace(FINDING, task_id="7")]) == 1
    assert shown(label_studio) == {"mine": [], TAB: [7]}
    many = [replace(FINDING, task_id=str(number)) for number in range(1, MOST_IN_TAB + 2)]
    assert show_in_label_studio(services, "4", many) == MOST_IN_TAB


def test_a_tab_that_is_refused_leaves_the_earlier_one(services: Services, label_studio: StandIn) -> None:
    show_in_label_studio(services, "4", [FINDING])
    label_studio.refuse = lambda method, path: 403 if (method, path) == ("POST", "/api/dm/views") else None
    with pytest.raises(LabelStudioError, match="make the tab"):
        show_in_label_studio(services, "4", [replace(FINDING, task_id="7")])
    assert shown(label_studio) == {TAB: [3]}


def test_another_project_of_that_number_gets_no_tab(services: Services, label_studio: StandIn) -> None:
    services.projects.update("4", created="1700000000")
    with pytest.raises(LabelStudioError, match="another Label Studio"):
        show_in_label_studio(services, "4", [FINDING])
    assert label_studio.tabs == {}


def test_findings_without_a_task(services: Services) -> None:
    with pytest.raises(ConfigError, match="No finding has a task"):
        show_in_label_studio(services, "4", [replace(FINDING, task_id=None)])


def test_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    odd = replace(FINDING, image="=1+1.jpg", given=(("+A",), ("B", "C")), other_image=None)
    write_findings(tmp_path / "found.csv", [odd])
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["image"], row["given"], row["other_image"]) == ("'=1+1.jpg", "'+A; B › C", "")
