"""Images whose labels are to be decided: each is read once, and few are in memory together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taxonomist.backend.labelling import decisions
from taxonomist.backend.labelling.decisions import CHUNK, decide_all_dirty, decide_anew, decide_dirty, leave_removed
from taxonomist.backend.services import Services
from taxonomist.backend.worker.worker import PULSE, Worker
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import Dirty, Event, Journal, TaskDeleted, TaskSaved
from taxonomist.taxonomy.errors import ConfigError, StorageError
from tests.small_world import CONFIG

SOURCE = "7.1795531934"
DAY = datetime(2026, 1, 5, tzinfo=UTC)


def uri(number: int) -> str:
    return f"/data/upload/7/{number}.jpg"


def add(services: Services, count: int) -> None:
    events: list[Event] = [TaskSaved("7", SOURCE, str(number), uri(number), DAY) for number in range(count)]
    services.journal.record(events)


def remove(services: Services, numbers: range) -> None:
    services.journal.record([TaskDeleted("7", SOURCE, str(number)) for number in numbers])


@pytest.fixture
def read(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of dirty images of each reading."""
    sizes: list[int] = []
    original = Journal.dirty

    def dirty(journal: Journal, project: str, *limits: Any, **more: Any) -> Dirty:
        found = original(journal, project, *limits, **more)
        sizes.append(len(found.images) + len(found.removed))
        return found

    monkeypatch.setattr(Journal, "dirty", dirty)
    return sizes


def test_each_dirty_image_is_read_once(services: Services, read: list[int]) -> None:
    services.projects.update("7", label_config=CONFIG)
    add(services, 3 * CHUNK + 7)
    decide_all_dirty(services, "7")
    assert (sum(read), max(read)) == (3 * CHUNK + 7, CHUNK)
    assert services.catalog.count("7") == 3 * CHUNK + 7
    read.clear()
    remove(services, range(2 * CHUNK))
    decide_all_dirty(services, "7")
    assert (sum(read), max(read)) == (2 * CHUNK, CHUNK)
    assert services.catalog.count("7") == CHUNK + 7


def test_no_more_than_the_limit_is_decided(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    add(services, 10)
    services.journal.fold()
    assert [decide_dirty(services, "7", 4) for _ in range(4)] == [True, True, True, False]
    add(services, 10)
    assert not decide_dirty(services, "7", 4)


def test_images_without_a_task_leave_a_project_whose_labels_cannot_be_decided(
    services: Services, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    services.projects.update("7", label_config=CONFIG)
    add(services, 40)
    decide_all_dirty(services, "7")
    add(services, 60)
    remove(services, range(0, 40, 2))
    services.journal.fold()
    services.projects.update("7", label_config="<View/>")
    monkeypatch.setattr(decisions, "CHUNK", 8)
    read.clear()
    with pytest.raises(ConfigError):
        decide_dirty(services, "7", 5)
    assert max(read) == 8
    assert services.catalog.count("7") == 20
    assert not services.journal.dirty("7").removed
    assert services.journal.dirty("7").images == {image_id(uri(number)) for number in range(40, 60)}
    leave_removed(services, "7")
    assert services.catalog.count("7") == 20


def test_images_that_cannot_leave_do_not_hold_the_labels_of_others(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.projects.update("7", label_config=CONFIG)
    numbers = sorted(range(40), key=lambda number: image_id(uri(number)))  # as dirty images are read
    removed, new = numbers[:20], numbers[20:]
    services.journal.record([TaskSaved("7", SOURCE, str(n), uri(n), DAY) for n in removed])
    decide_all_dirty(services, "7")
    services.journal.record([TaskDeleted("7", SOURCE, str(n)) for n in removed])
    services.journal.record([TaskSaved("7", SOURCE, str(n), uri(n), DAY) for n in new])
    services.journal.fold()
    dirty = services.journal.dirty("7", 100)
    assert (len(dirty.images), len(dirty.removed)) == (20, 20)

    def away(*_: object) -> None:
        raise StorageError("Azure is away.")

    monkeypatch.setattr(decisions, "leave_project", away)
    for _ in range(10):
        with pytest.raises(StorageError):
            decide_dirty(services, "7", 5)
    left = services.journal.dirty("7", 100)
    assert (len(left.images), len(left.removed)) == (0, 20)


def test_labels_count_that_were_written_before_the_store_failed(
    world: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    Worker(world).pulse()
    before = world.projects.get("7")
    images = sorted(document.id for document in world.catalog.documents("7", labelled=True))[:2]
    world.projects.update("7", label_config=CONFIG.replace('value="Red"', 'value="Scarlet"').replace("Blue", "Navy"))
    write = decisions._write_labels

    def half(services: Services, project: str, deciding: Any, some: Any) -> Any:
        if len(some) == 2:
            raise RecursionError("odd")
        if some[0] == images[1]:
            raise StorageError("The disk is full.")
        return write(services, project, deciding, some)

    monkeypatch.setattr(decisions, "_write_labels", half)
    world.catalog.update(
        images[0], lambda d: d.in_project("7", d.projects["7"].model_copy(update={"accepted": {"colour": [["Odd"]]}}))
    )
    with pytest.raises(StorageError):
        decisions.update_labels(world, "7", images)
    assert world.projects.get("7").labels_version > before.labels_version


@pytest.mark.parametrize("work", ["all dirty", "anew"])
def test_a_long_decision_shows_that_it_moves(services: Services, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    monkeypatch.setattr(decisions, "CHUNK", 10)
    services.projects.update("7", label_config=CONFIG)
    add(services, 35)
    left: list[int] = []

    def step() -> None:
        left.append(services.journal.counts.dirty("7"))

    decide_all_dirty(services, "7", step)
    assert left == [25, 15, 5, 0]
    if work == "anew":
        steps: list[int] = []
        services.projects.update("7", label_config=CONFIG.replace("Red", "Scarlet"))
        decide_anew(services, "7", lambda: steps.append(1))
        assert len(steps) == 4


def test_a_worker_that_decides_many_labels_moves(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "CHUNK", 10)
    services.projects.update("7", label_config=CONFIG)
    add(services, 35)
    worker = Worker(services)
    worker.pulse()
    services.projects.update("7", label_config=CONFIG.replace("Red", "Scarlet"))
    moved: list[str] = []
    monkeypatch.setattr(worker._watch, "moved", moved.append)
    worker.pulse()
    assert moved == [PULSE] * 5  # once for the project, and for each ten images
