"""What is set aside: bounded, tried again, taken back when it works, and forgotten with its project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxonomist.storage import set_aside
from taxonomist.storage.journal import AnnotationSaved, Event, Journal, TaskSaved
from taxonomist.storage.set_aside import Item, ItemKind, describe
from taxonomist.taxonomy.errors import DamagedError

AT = datetime(2026, 1, 1, tzinfo=UTC)
URI = "/data/upload/4/a.jpg"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def execute(journal: Journal, statement: str, *values: object) -> None:
    with sqlite3.connect(journal._database.path) as connection:
        assert connection.execute(statement, values).rowcount
    connection.close()


def damage_event(journal: Journal) -> str:
    """Record an event of project 4 and damage it; return what it was."""
    journal.record([AnnotationSaved("4", "4.1", "1", "5", URI, AT, AT, {})])
    with sqlite3.connect(journal._database.path) as connection:
        (body,) = connection.execute("SELECT body FROM events").fetchone()
    connection.close()
    execute(journal, "UPDATE events SET body = '{'")
    return str(body)


def only(journal: Journal) -> Item:
    (item,) = journal.set_aside.items()
    return item


def test_an_event_waits_and_is_folded_once_it_can_be(journal: Journal) -> None:
    body = damage_event(journal)
    journal.record([TaskSaved("8", "8.1", "1", "/data/upload/8/b.jpg", AT)])
    journal.fold()
    assert [task.task_id for task in journal.tasks("8")] == ["1"]
    first = only(journal)
    assert (first.project, first.kind, first.key, first.tries) == ("4", ItemKind.EVENT, "1", 1)
    assert first.reason.startswith("annotation-saved: The journal holds an event that cannot be read")
    journal.fold()
    assert only(journal) == first  # it is not tried each second
    journal.set_aside.retry()
    journal.fold()
    second = only(journal)
    assert (second.key, second.tries, second.since) == ("3", 2, first.since)
    execute(journal, "UPDATE events SET body = ? WHERE seq = 3", body)
    journal.set_aside.retry("4")
    journal.fold()
    assert journal.set_aside.items() == []
    assert [record.annotation_id for record in journal.annotations("4")] == ["1"]


def test_an_event_that_found_no_memory_is_folded_next(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.record([TaskSaved("8", "8.1", "1", "/data/upload/8/b.jpg", AT)])

    def decode(*_: object) -> Event:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("taxonomist.storage.journal.fold.decode", decode)
        with pytest.raises(MemoryError):
            journal.fold()
    assert (journal.set_aside.items(), journal.pending()) == ([], 1)
    journal.fold()
    assert [task.task_id for task in journal.tasks("8")] == ["1"]


def test_a_start_tries_again_after_an_upgrade_and_three_times_at_most(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_event(journal)
    for tries in (1, 2, 3, 3):
        journal.fold()
        assert only(journal).tries == tries
        journal.set_aside.retry(at_start=True)
    journal.fold()
    monkeypatch.setattr(set_aside, "software_version", lambda: "99")
    assert [item.kind for item in journal.set_aside.retry(at_start=True)] == [ItemKind.EVENT]
    journal.fold()
    assert (only(journal).tries, only(journal).version) == (4, "99")


def test_events_that_wait_outlive_those_that_are_deleted_by_age(journal: Journal) -> None:
    damage_event(journal)
    journal.record([TaskSaved("4", "4.1", "7", URI, AT)])
    journal.fold()
    assert journal.compact(-1) == 1
    assert journal.set_aside.retry()[0].key == "1"
    assert journal.pending() == 1


def test_an_image_is_dirty_again(journal: Journal) -> None:
    journal.record([TaskSaved("4", "4.1", "1", URI, AT)])
    dirty = journal.dirty("4") if journal.fold() else None
    assert dirty is not None
    (image,) = dirty.images
    journal.set_aside.add(ItemKind.IMAGE, "4", image, "odd")
    journal.done("4", [image], dirty.position)
    journal.set_aside.retry()
    assert journal.dirty("4").images == {image}
    journal.set_aside.clear(ItemKind.IMAGE, "4", [image, "other"])
    assert journal.set_aside.items() == []


def test_steps_jobs_and_reasons_are_bounded_events_and_images_are_all_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_aside, "MOST_ITEMS", 3)
    for number in range(5):
        monkeypatch.setattr("taxonomist.storage.set_aside.time.time", lambda number=number: 100.0 + number)
        for kind in ItemKind:
            journal.set_aside.add(kind, "4", str(number), "x\n\0\ud800" * 1000)
    journal.set_aside.add(ItemKind.JOB, "8", "0", "")
    assert [item.key for item in journal.set_aside.items("4") if item.kind is ItemKind.JOB] == ["4", "3", "2"]
    assert journal.set_aside.items("4")[0].reason.startswith(r"x\n\x00\ud800x")
    assert len(journal.set_aside.items("4")[0].reason) == 300
    assert journal.set_aside.counts() == {
        ("4", "event"): 5,
        ("4", "image"): 5,
        ("4", "step"): 3,
        ("4", "job"): 3,
        ("8", "job"): 1,
    }


def test_it_is_forgotten_with_its_project_its_image_and_its_event(journal: Journal) -> None:
    damage_event(journal)
    journal.record([TaskSaved("4", "4.1", "1", URI, AT)])
    journal.fold()
    (image,) = journal.dirty("4").images
    for project in ("4", "8"):
        journal.set_aside.add(ItemKind.IMAGE, project, image, URI)
        journal.set_aside.add(ItemKind.STEP, project, "labels", "odd")
    journal.withdrawal.forget_images([image], {})
    assert {item.kind for item in journal.set_aside.items()} == {ItemKind.EVENT, ItemKind.STEP}
    journal.withdrawal.withdraw_project("4")
    assert {item.kind for item in journal.set_aside.items()} == {ItemKind.STEP}
    journal.withdrawal.forget_project("4")
    assert [item.project for item in journal.set_aside.items()] == ["8"]


def test_reasons() -> None:
    assert describe(DamagedError("It is damaged.", hint="Do it.")) == "It is damaged. Do it."
    assert describe(ValueError("odd")) == "ValueError: odd"
    assert describe(MemoryError()) == "MemoryError"
