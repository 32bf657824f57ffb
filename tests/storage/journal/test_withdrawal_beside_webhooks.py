"""What the journal has of images goes in small steps: events are recorded between them, and a killed run goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import Event, Journal, TaskDeleted
from taxonomist.storage.sqlite import Database
from tests.storage.journal.test_withdrawal import LABEL_STUDIO, annotation, at, task

FILE = "manifest.csv"
COUNT = 8_000  # images in each of two projects; each has a task, an annotation and a deletion
MOST_ROWS = 4 * 500  # of one transaction: tasks or events, and what belongs to them


class KilledError(BaseException):
    """The process ends here."""


def uri(number: int) -> str:
    return f"/data/upload/4/secret-{number}.jpg"


def filled(path: Path, count: int) -> Journal:
    """Return a journal in which every second image of two projects was deleted."""
    journal = Journal(path)
    for project, source in (("4", LABEL_STUDIO), ("5", FILE)):
        for start in range(0, count, 500):
            events: list[Event] = []
            for number in range(start, min(start + 500, count)):
                name = uri(number) if source == FILE else str(number)
                annotated = f"{name}|anna" if source == FILE else f"{number}0"
                events.append(task(name, uri(number), project=project, source=source))
                events.append(annotation(annotated, name, uri(number), project=project, source=source))
                if number % 2:
                    events.append(TaskDeleted(project, source, name, at(2)))
            journal.record(events)
    journal.fold()
    return journal


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    with filled(path, COUNT) as journal:
        assert journal.position() == 2 * (2 * COUNT + COUNT // 2)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


@pytest.fixture
def large(template: Path, tmp_path: Path) -> Iterator[Journal]:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(template.read_bytes())
    with Journal(path) as journal:
        yield journal


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of a journal, but for when they were received."""
    connection = sqlite3.connect(path)
    tables = ("annotations", "tasks", "task_images", "deletions", "former_parts", "dirty", "unknown_paths")
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
    found["events"] = sorted(connection.execute("SELECT seq, key, project, body FROM events"))
    found["projects"] = sorted(connection.execute("SELECT project FROM projects"))
    connection.close()
    return found


@contextmanager
def after_each_transaction(
    monkeypatch: pytest.MonkeyPatch, database: Database, act: Callable[[], None]
) -> Iterator[list[int]]:
    """Call `act` after each write transaction of one journal; yield the list of how many rows each has changed.

    No transaction may read the events: only their deletion by number is allowed.
    """
    changed: list[int] = []
    write = Database.write

    @contextmanager
    def watched(self: Database) -> Iterator[sqlite3.Connection]:
        if self is not database:
            with write(self) as connection:
                yield connection
            return
        statements: list[str] = []
        with write(self) as connection:
            before = connection.total_changes
            connection.set_trace_callback(statements.append)
            try:
                yield connection
            finally:
                connection.set_trace_callback(None)
            changed.append(connection.total_changes - before)
        read = [
            text for text in statements if "events" in text and not text.startswith("DELETE FROM events WHERE seq =")
        ]
        assert read == []
        act()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", watched)
        yield changed


def database_of(journal: Journal) -> Database:
    return journal._database


def deleted_images() -> list[str]:
    return [image_id(uri(number)) for number in range(1, COUNT, 2)]


STEPS: dict[str, Callable[[Journal], None]] = {
    "images": lambda journal: journal.withdrawal.forget_images(
        deleted_images(), {("4", image): "test" for image in deleted_images()}
    ),
    "image": lambda journal: journal.withdrawal.withdraw_image("4", image_id(uri(2))),
    "project": lambda journal: journal.withdrawal.withdraw_project("4"),
    "last trace": lambda journal: journal.withdrawal.forget_project("5"),
}


@pytest.mark.parametrize("step", STEPS)
def test_events_are_recorded_between_small_transactions(
    large: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with Journal(tmp_path / "journal.sqlite") as server:
        appended: list[str] = []

        def append() -> None:
            name = str(1_000_000 + len(appended))
            assert server.record([task(name, f"/data/upload/6/new-{name}.jpg", project="6")]) == 1
            appended.append(name)

        with after_each_transaction(monkeypatch, database_of(large), append) as changed:
            STEPS[step](large)
        assert max(changed) <= MOST_ROWS
        expected = {
            "images": 2 * (2 * COUNT + COUNT // 2) // 2 // 500,
            "image": 2,
            "project": 4 * COUNT // 500,
            "last trace": 8,
        }
        assert len(changed) >= expected[step]
        server.fold()
        assert sorted(found.task_id for found in server.tasks("6")) == sorted(appended)


def test_an_image_with_many_tasks_goes_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder that thousands of tasks show."""
    with Journal(tmp_path / "journal.sqlite") as journal:
        for start in range(0, 2000, 500):
            numbers = [str(number) for number in range(start, start + 500)]
            journal.record([task(number, uri(1)) for number in numbers])
            journal.record([annotation(f"{number}0", number, uri(1)) for number in numbers])
            journal.record([TaskDeleted("4", LABEL_STUDIO, number, at(2)) for number in numbers])
        journal.fold()
        with after_each_transaction(monkeypatch, database_of(journal), lambda: None) as changed:
            journal.withdrawal.forget_images([image_id(uri(1))], {})
        assert max(changed) <= MOST_ROWS
        left = content(tmp_path / "journal.sqlite")
        assert [len(left[name]) for name in ("tasks", "annotations", "deletions")] == [0, 0, 2000]
        assert not any("secret" in str(event) for event in left["events"])


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_anywhere_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr("taxonomist.storage.journal.withdrawal._SLICE", 7)
    monkeypatch.setattr("tests.storage.journal.test_withdrawal_beside_webhooks.COUNT", 24)
    filled(tmp_path / "template.sqlite", 24).close()

    def run(name: str, last: int | None) -> int:
        """Return how many transactions there were until the run was killed, after the `last` one, or ended."""
        (tmp_path / name).write_bytes((tmp_path / "template.sqlite").read_bytes())
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if done == last:
                raise KilledError

        with Journal(tmp_path / name) as journal:
            try:
                with after_each_transaction(monkeypatch, database_of(journal), count):
                    STEPS[step](journal)
            except KilledError:
                assert content(tmp_path / name)["projects"], "the command must find the project again"
        return done

    transactions = run("whole.sqlite", None)
    expected = content(tmp_path / "whole.sqlite")
    assert transactions >= 2
    assert expected != content(tmp_path / "template.sqlite")
    for last in range(1, transactions + 1):
        run(f"{last}.sqlite", last)
        with Journal(tmp_path / f"{last}.sqlite") as journal:
            STEPS[step](journal)
        assert content(tmp_path / f"{last}.sqlite") == expected, f"killed after transaction {last}"


def test_a_task_that_lives_again_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass reads that the task exists, after the images to forget were listed."""
    path = tmp_path / "journal.sqlite"
    with filled(path, 4) as journal, Journal(path) as server:
        done: list[int] = []

        def revive() -> None:
            if not done:
                done.append(server.record([task("901", uri(1))]))
                server.fold()

        with after_each_transaction(monkeypatch, database_of(journal), revive):
            journal.withdrawal.forget_images([image_id(uri(1)), image_id(uri(3))], {("4", image_id(uri(1))): "train"})
        assert [found.task_id for found in journal.tasks("4", image_id(uri(1)))] == ["901"]
        assert image_id(uri(1)) in journal.dirty("4").images
