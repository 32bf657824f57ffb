"""Stored suggestions that a broken promise no longer allows leave Label Studio's open tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.services import Services
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import image_bytes

V1 = "taxonomist-v1"


class Pushed:
    """Project 7 with four open tasks that have a suggestion each."""

    def __init__(self, services: Services, label_studio: StandIn) -> None:
        self.services, self.label_studio = services, label_studio
        folder = services.projects.get("7").image_folders[0].folders[0]
        for id in (1, 2, 3, 4):
            (folder / f"open{id}.jpg").write_bytes(image_bytes(tuple(RED), 900 + id))
            label_studio.add_task(id, str(folder / f"open{id}.jpg"))
        self.push()

    def push(self) -> str:
        return push(self.services, "7", lambda step, share: None)

    def suggested(self) -> dict[int, bool]:
        return {one["task"]: bool(one["result"]) for one in self.label_studio.predictions.values()}


@pytest.fixture
def pushed(trained: Services) -> Iterator[Pushed]:
    with StandIn(7) as label_studio:
        trained.projects.update("7", label_studio_url=label_studio.url, api_key=SecretStr("t"))
        yield Pushed(trained, label_studio)


def test_suggestions_below_the_floor_are_withdrawn_from_open_tasks(pushed: Pushed) -> None:
    assert set(pushed.suggested().values()) == {True}
    ids = list(pushed.label_studio.predictions)
    pushed.label_studio.drafts = {2}
    pushed.label_studio.annotate(1, 3, 5, RED)
    pushed.services.suggestions.keep_floors("7", V1, {"colour": math.inf})
    assert pushed.push().endswith(", 2 were withdrawn")
    assert pushed.suggested() == {1: False, 2: True, 3: True, 4: False}
    assert list(pushed.label_studio.predictions) == ids
    assert {row.task_id for row in pushed.services.suggestions.of_tasks("7", ["1", "2", "3", "4"])} == {"2", "3"}


def test_suggestions_above_the_floor_stay(pushed: Pushed) -> None:
    before = pushed.label_studio.predictions.copy()
    pushed.services.suggestions.keep_floors("7", V1, {"colour": 0.01})
    assert "withdrawn" not in pushed.push()
    assert pushed.label_studio.predictions == before
