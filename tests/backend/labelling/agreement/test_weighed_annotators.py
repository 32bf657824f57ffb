"""`agreement=dawid_skene` in a project: when the weights are learned, what they decide, and what a change changes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.labelling.agreement.annotator_rates import lacks_rates
from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew, update_labels
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationSaved, Event, TaskSaved
from tests.small_world import CONFIG

DAY = datetime(2026, 1, 5, tzinfo=UTC)
SOURCE = "7.1"
PATHS = [["Warm", "Red"], ["Warm", "Yellow"], ["Cold", "Blue"], ["Cold", "Green"]]
IMAGES = 40
TRUTH = [PATHS[number % 4] for number in range(IMAGES)]


def answer(task: int, person: int, path: list[str], minutes: int = 0) -> list[Event]:
    uri, at = f"/data/upload/7/{task}.jpg", DAY + timedelta(minutes=minutes)
    region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}
    id = f"{task}0{person}"
    data: dict[str, Any] = {"id": id, "task": task, "completed_by": person, "result": [region]}
    data |= {"created_at": at.isoformat(), "updated_at": at.isoformat()}
    return [
        TaskSaved("7", SOURCE, str(task), uri, DAY),
        AnnotationSaved("7", SOURCE, id, str(task), uri, at, at, data),
    ]


def annotate(services: Services, *, reverse: bool = False) -> None:
    """Let persons 1 and 2 name the truth on most images, and 3, 4 and 5 any path."""
    draw = random.Random(1)
    events: list[list[Event]] = []
    for task, truth in enumerate(TRUTH):
        for person in (1, 2, 3, 4, 5):
            right = draw.random() < (0.95 if person < 3 else 0.0)
            events.append(answer(task, person, truth if right else draw.choice(PATHS)))
    ordered = reversed(events) if reverse else events
    services.journal.record([event for group in ordered for event in group])


@pytest.fixture
def world(services: Services) -> Services:
    services.projects.update("7", label_config=CONFIG)
    annotate(services)
    decide_all_dirty(services, "7")
    return services


def accepted(services: Services) -> dict[str, Any]:
    return {document.id: document.projects["7"].accepted for document in services.catalog.documents("7")}


def test_a_change_says_how_many_images_change_and_then_they_do(
    world: Services, caplog: pytest.LogCaptureFixture
) -> None:
    before = accepted(world)
    effects = change_settings(world, "7", ["agreement=dawid_skene"])
    assert accepted(world) == before
    decide_anew(world, "7")
    after = accepted(world)
    changed = sum(after[image] != before[image] for image in before)
    assert changed > IMAGES / 4
    true = {image_id(f"/data/upload/7/{task}.jpg"): {"colour": [path]} for task, path in enumerate(TRUTH)}
    world.projects.update("7", annotator_rates={})  # all weigh the same
    update_labels(world, "7", list(after))
    unlearned = accepted(world)
    assert sum(after[image] == true[image] for image in true) > sum(unlearned[image] == true[image] for image in true)
    assert f"{changed} of {IMAGES} images get another label." in effects
    done = world.projects.get("7").decided_anew
    assert done is not None
    assert (done.images, done.changed) == (IMAGES, changed)
    assert f"{changed} of {IMAGES} images have another label" in caplog.text


def test_a_change_back_gives_the_former_labels(world: Services) -> None:
    before = accepted(world)
    for way in ("dawid_skene", "majority", ""):
        change_settings(world, "7", [f"agreement={way}"])
        decide_anew(world, "7", learn=True)
    assert accepted(world) == before
    assert not world.projects.get("7").annotator_rates


def test_labels_follow_from_the_journal(world: Services, tmp_path: Path) -> None:
    """A home whose journal got the same annotations in another order has the same rates and labels."""
    other = Services(Settings(home=tmp_path / "other", agreement="dawid_skene"))
    other.projects.update("7", label_config=CONFIG)
    annotate(other, reverse=True)
    decide_all_dirty(other, "7")  # with nothing learned yet
    decide_anew(other, "7")
    change_settings(world, "7", ["agreement=dawid_skene"])
    decide_anew(world, "7")
    assert other.projects.get("7").annotator_rates == world.projects.get("7").annotator_rates
    assert accepted(other) == accepted(world)


def test_an_annotation_decides_its_image_alone(world: Services) -> None:
    """What the annotators weigh is learned again with the next training or pass, not with each webhook."""
    change_settings(world, "7", ["agreement=dawid_skene"])
    decide_anew(world, "7")
    before, rates = accepted(world), world.projects.get("7").annotator_rates
    for person in (1, 2):
        world.journal.record(answer(0, person, PATHS[3], minutes=5))
    decide_all_dirty(world, "7")
    decide_anew(world, "7")
    after = accepted(world)
    assert [after[image] for image in after if after[image] != before[image]] == [{"colour": [PATHS[3]]}]
    assert world.projects.get("7").annotator_rates == rates
    decide_anew(world, "7", learn=True)
    assert world.projects.get("7").annotator_rates != rates


def test_another_taxonomy_is_learned_at_once(world: Services) -> None:
    change_settings(world, "7", ["agreement=dawid_skene"])
    decide_anew(world, "7")
    assert not lacks_rates(world, "7")
    world.projects.update("7", label_config=CONFIG.replace('<Choice value="Green"/>', '<Choice value="Lime"/>'))
    assert lacks_rates(world, "7")
    decide_anew(world, "7")
    assert not lacks_rates(world, "7")
