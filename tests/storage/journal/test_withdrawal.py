"""What the journal has of images and projects goes, and what another task, source or project uses stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, Event, Journal, TaskDeleted, TaskSaved

LABEL_STUDIO, FILE = "4.1795531934", "manifest.csv"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B, C = (f"/data/upload/4/secret-{name}.jpg" for name in "abc")


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def task(id: str, uri: str, *, project: str = "4", source: str = LABEL_STUDIO, **images: str) -> TaskSaved:
    return TaskSaved(project, source, id, uri, at(0), data={"image": uri}, images=images)


def annotation(id: str, task: str, uri: str, *, project: str = "4", source: str = LABEL_STUDIO) -> AnnotationSaved:
    return AnnotationSaved(project, source, id, task, uri, at(1), at(1), {"result": []})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def holds(journal: Journal, tmp_path: Path, text: str) -> bool:
    """Return whether a file of the database has the text anywhere."""
    journal.withdrawal.erase_deleted()
    return any(text.encode() in path.read_bytes() for path in tmp_path.glob("journal.sqlite*"))


def forget(journal: Journal, uri: str) -> None:
    """Forget an image of project 4, as after its last task was deleted."""
    journal.withdrawal.forget_images([image_id(uri)], {})
    journal.done("4", [image_id(uri)], journal.position())


def test_a_deleted_image_leaves_no_byte(journal: Journal, tmp_path: Path) -> None:
    journal.record([task("1", A), annotation("10", "1", A), task("2", B), annotation("20", "2", B)])
    journal.record([TaskDeleted("4", LABEL_STUDIO, "1")])
    journal.fold()
    assert holds(journal, tmp_path, "secret-a")
    forget(journal, A)
    assert not holds(journal, tmp_path, "secret-a")
    assert [found.annotation_id for found in journal.annotations("4")] == ["20"]
    assert holds(journal, tmp_path, "secret-b")


def test_a_late_webhook_does_not_bring_it_back(journal: Journal) -> None:
    journal.record([task("1", A), annotation("10", "1", A), TaskDeleted("4", LABEL_STUDIO, "1")])
    journal.fold()
    forget(journal, A)
    journal.record([task("1", A), annotation("10", "1", A)])
    journal.fold()
    assert not list(journal.annotations("4"))
    assert not list(journal.tasks("4"))
    assert journal.dirty("4").removed == {image_id(A)}  # so that it is forgotten again


def test_former_addresses_of_a_task_go_with_their_image(journal: Journal, tmp_path: Path) -> None:
    """A task's address was corrected from A to B: events of A are left. B stays."""
    journal.record([task("1", A), annotation("10", "1", A)])
    journal.fold()
    corrected = [TaskSaved("4", LABEL_STUDIO, "1", B, at(0), at(5)), annotation("10", "1", B)]
    read = [TaskSaved(**{**vars(corrected[0]), "read_after": journal.position()})]
    journal.record([*read, AnnotationSaved(**{**vars(corrected[1]), "read_after": journal.position()})])
    journal.fold()
    forget(journal, A)
    assert not holds(journal, tmp_path, "secret-a")
    assert [found.uri for found in journal.annotations("4")] == [B]


def test_a_manifest_leaves_no_address_in_its_ids(journal: Journal, tmp_path: Path) -> None:
    saved = annotation(f"{A}|anna", A, A, source=FILE)
    gone: list[Event] = [AnnotationDeleted("4", FILE, f"{A}|anna", at(2)), TaskDeleted("4", FILE, A, at(2))]
    journal.record([task(A, A, source=FILE), saved, *gone, task(B, B, source=FILE)])
    journal.fold()
    forget(journal, A)
    assert not holds(journal, tmp_path, "secret-a")
    assert [found.uri for found in journal.tasks("4")] == [B]


def test_what_a_task_shows_is_used_in_any_project_and_source(journal: Journal) -> None:
    journal.record([task("1", A), task("2", A, project="5"), task("3", B, source=FILE)])
    journal.record([task("4", C, left=C, right=B), annotation("50", "5", A, project="6")])
    journal.fold()
    ids = {name: image_id(uri) for name, uri in (("a", A), ("b", B), ("c", C))}
    used = journal.withdrawal.used
    assert used(ids.values()) == set(ids.values())
    journal.record([TaskDeleted("4", LABEL_STUDIO, "1"), TaskDeleted("4", FILE, "3")])
    journal.fold()
    assert used([ids["a"]]) == {ids["a"]}
    assert used([ids["b"]]) == {ids["b"]}  # beside C
    assert used([ids["b"]], but="4") == set()
    journal.record([TaskDeleted("5", LABEL_STUDIO, "2"), AnnotationDeleted("6", LABEL_STUDIO, "50")])
    journal.fold()
    assert used([ids["a"]]) == set()


def test_a_task_with_another_image_stays(journal: Journal) -> None:
    journal.record([task("1", A, left=A, right=B), annotation("10", "1", A), task("2", A)])
    journal.fold()
    assert journal.withdrawal.tasks_with_others("4", image_id(A)) == [(LABEL_STUDIO, "1")]
    journal.withdrawal.withdraw_image("4", image_id(A))
    assert [found.task_id for found in journal.tasks("4")] == ["1"]
    assert [found.annotation_id for found in journal.annotations("4")] == ["10"]
    assert image_id(A) in journal.dirty("4").images


def test_an_image_is_withdrawn_from_its_project(journal: Journal, tmp_path: Path) -> None:
    journal.record([task("1", A), annotation("10", "1", A), task("2", B), annotation("20", "2", B)])
    journal.fold()
    journal.done("4", journal.dirty("4").images, journal.position())
    assert journal.withdrawal.projects_of(image_id(A)) == ["4"]
    assert vars(journal.withdrawal.rows("4", [image_id(A)])) == {"tasks": 1, "annotations": 1, "events": 2}
    journal.withdrawal.withdraw_image("4", image_id(A))
    assert journal.dirty("4").removed == {image_id(A)}
    assert not holds(journal, tmp_path, "/secret-a")  # its id is still to be done
    assert [found.uri for found in journal.tasks("4")] == [B]


def test_a_project_goes_whole_and_another_stays(journal: Journal, tmp_path: Path) -> None:
    journal.record([task("1", A), annotation("10", "1", A), task("2", B, project="5")])
    journal.fold()
    journal.done("4", journal.dirty("4").images, journal.position())
    journal.record([task("3", C)])  # not folded
    journal.withdrawal.withdraw_project("4", ["known-to-the-catalogue"])
    assert journal.dirty("4").removed == {image_id(A), "known-to-the-catalogue"}
    assert journal.withdrawal.projects() == ["4", "5"]
    assert not holds(journal, tmp_path, "/secret-a")
    journal.withdrawal.forget_project("4")
    assert journal.withdrawal.projects() == ["5"]
    assert journal.pending() == 0
    assert [found.uri for found in journal.tasks("5")] == [B]


def test_the_part_is_kept_without_the_name(journal: Journal, tmp_path: Path) -> None:
    a, b = image_id(A), image_id(B)
    journal.withdrawal.forget_images([a, b], {("4", a): "train", ("5", a): "test", ("4", b): "test"})
    assert journal.kept.parts("4", [a, b, image_id(C)]) == {a: "train", b: "test"}
    assert not holds(journal, tmp_path, "secret")
    # Once an image was trained on, it never tests.
    journal.withdrawal.forget_images([a, b], {("4", a): "test", ("4", b): "train"})
    assert journal.kept.parts("4", [a, b]) == {a: "train", b: "train"}
