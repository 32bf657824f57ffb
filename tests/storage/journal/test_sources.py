"""Ids count within a source; what is read from a source now wins over what was recorded before."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import (
    UNKNOWN_SOURCE,
    AnnotationDeleted,
    AnnotationSaved,
    Journal,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.storage.journal.migration import adopt, migrate

LABEL_STUDIO, EXPORT = "4.1795531934", "export.json"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B = "/data/upload/4/a.jpg", "/data/upload/4/b.jpg"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def saved(
    id: str = "1",
    *,
    source: str = LABEL_STUDIO,
    task: str = "7",
    uri: str = A,
    time: float = 0,
    read_after: int | None = None,
    **data: Any,
) -> AnnotationSaved:
    return AnnotationSaved("4", source, id, task, uri, at(0), at(time), data, read_after)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def live(journal: Journal, source: str | None = None) -> dict[tuple[str, str], Any]:
    journal.fold()
    return {(record.source, record.annotation_id): record.data for record in journal.annotations("4", source=source)}


def test_ids_count_within_their_source(journal: Journal) -> None:
    tasks = [TaskSaved("4", source, "7", uri, at(0)) for source, uri in ((LABEL_STUDIO, A), (EXPORT, B))]
    assert journal.record([*tasks, saved(n=1), saved(source=EXPORT, uri=B, n=2)]) == 4
    assert live(journal) == {(LABEL_STUDIO, "1"): {"n": 1}, (EXPORT, "1"): {"n": 2}}
    assert live(journal, EXPORT) == {(EXPORT, "1"): {"n": 2}}
    assert [(task.source, task.uri) for task in journal.tasks("4")] == [(LABEL_STUDIO, A), (EXPORT, B)]
    assert [task.uri for task in journal.tasks("4", source=EXPORT)] == [B]
    assert journal.sources("4") == [LABEL_STUDIO, EXPORT]
    journal.record([AnnotationDeleted("4", LABEL_STUDIO, "1"), TaskDeleted("4", LABEL_STUDIO, "7")])
    assert live(journal) == {(EXPORT, "1"): {"n": 2}}
    assert journal.sources("4") == [EXPORT]


def test_ids_of_one_source_are_read_over_pages(journal: Journal) -> None:
    sources = (LABEL_STUDIO, EXPORT)
    journal.record([saved(f"{n:04}", source=source, n=n) for n in range(600) for source in sources])
    journal.fold()
    found = [(record.source, record.annotation_id) for record in journal.annotations("4")]
    assert found == [(source, f"{n:04}") for source in sources for n in range(600)]
    some = journal.annotations("4", source=EXPORT, ids=["0003", "0599", "none"])
    assert [(record.source, record.data["n"]) for record in some] == [(EXPORT, 3), (EXPORT, 599)]


def test_ids_are_looked_up_in_the_index(journal: Journal) -> None:
    """Of a large source, a few ids take a few steps, not one for each of its annotations."""
    for start in range(0, 4000, 500):
        journal.record([saved(f"{n:04}", n=n) for n in range(start, start + 500)])
    journal.fold()
    steps = []
    with journal._database.read() as connection:
        pass  # the next reader takes the same connection
    connection.set_progress_handler(lambda: steps.append(1), 100)
    found = [record.data["n"] for record in journal.annotations("4", source=LABEL_STUDIO, ids=["3998", "3999"])]
    assert found == [3998, 3999]
    assert len(steps) < 10


def test_the_times_of_a_task_are_kept(journal: Journal) -> None:
    journal.record([TaskSaved("4", LABEL_STUDIO, "7", A, at(0), at(5), {"image": A})])
    journal.fold()
    (task,) = journal.tasks("4")
    assert (task.created_at, task.updated_at, task.data) == (at(0), at(5), {"image": A})


def test_an_annotation_that_was_moved_follows_although_its_times_stay(journal: Journal) -> None:
    """Label Studio's *Remove duplicated tasks* moves annotations, then deletes the tasks that they were moved from."""
    journal.record([TaskSaved("4", LABEL_STUDIO, id, A, at(0)) for id in "78"])
    journal.record([saved("1", task="7"), saved("2", task="8")])
    journal.record([TaskDeleted("4", LABEL_STUDIO, "8")])
    assert set(live(journal)) == {(LABEL_STUDIO, "1")}
    journal.record([saved("2", task="7", read_after=journal.position())])
    assert set(live(journal)) == {(LABEL_STUDIO, "1"), (LABEL_STUDIO, "2")}
    journal.record([TaskDeleted("4", LABEL_STUDIO, "8")])  # also when it comes late
    assert len(live(journal)) == 2
    assert {record.task_id for record in journal.annotations("4")} == {"7"}


def test_a_corrected_address_moves_the_task_and_its_annotations(journal: Journal) -> None:
    journal.record([TaskSaved("4", LABEL_STUDIO, "7", A, at(0)), saved()])
    journal.fold()
    now = journal.position()
    journal.record([TaskSaved("4", LABEL_STUDIO, "7", B, at(0), at(9), read_after=now), saved(uri=B, read_after=now)])
    folded = journal.fold()
    assert folded.images == {("4", image_id(B))}
    assert folded.removed == {("4", image_id(A))}
    assert journal.record([saved()]) == 0  # the webhook of before, once more
    assert [record.uri for record in journal.annotations("4")] == [B]


def test_what_is_read_alive_lives_again(journal: Journal) -> None:
    journal.record([TaskSaved("4", LABEL_STUDIO, "7", A, at(0)), saved("1"), saved("2")])
    journal.record([AnnotationDeleted("4", LABEL_STUDIO, "1"), TaskDeleted("4", LABEL_STUDIO, "7")])
    assert live(journal) == {}
    now = journal.position()
    journal.record([TaskSaved("4", LABEL_STUDIO, "7", A, at(0), read_after=now), saved("1", read_after=now)])
    assert journal.fold().images == {("4", image_id(A))}
    assert [task.task_id for task in journal.tasks("4")] == ["7"]
    assert set(live(journal)) == {(LABEL_STUDIO, "1"), (LABEL_STUDIO, "2")}  # nobody deleted the second by itself


def test_what_was_recorded_since_the_reading_began_stays(journal: Journal) -> None:
    journal.record([saved("1", n=1), saved("2", n=1), saved("3", n=1)])
    begun = journal.position()
    journal.record([saved("1", time=9, n=2), AnnotationDeleted("4", LABEL_STUDIO, "2"), saved("4", n=1)])
    journal.record([saved(id, read_after=begun, n=1) for id in "12"])  # the pass read them before
    journal.record([AnnotationDeleted("4", LABEL_STUDIO, id, read_after=begun) for id in "34"])  # it did not see them
    assert {id: data["n"] for (_, id), data in live(journal).items()} == {"1": 2, "4": 1}


def test_what_is_read_wins_over_any_time(journal: Journal) -> None:
    journal.record([saved(time=9, n=1)])
    journal.record([saved(time=5, n=2, read_after=journal.position())])
    assert live(journal) == {(LABEL_STUDIO, "1"): {"n": 2}}


def starred(journal: Journal) -> set[str]:
    return {id for (_, id), data in live(journal).items() if data["ground_truth"]}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_a_new_star_takes_the_others_of_its_task_away(journal: Journal, order: tuple[int, ...]) -> None:
    """Label Studio does so without a webhook; when the new star is removed, the task has none."""
    journal.record([saved(id, ground_truth=False) for id in "12"])
    journal.record([saved("3", task="8", ground_truth=True)])
    events = [saved("1", time=1, ground_truth=True), saved("2", time=2, ground_truth=True)]
    for index in order[:2]:
        journal.record([events[index]])
    assert starred(journal) == {"2", "3"}
    journal.record([saved("2", time=3, ground_truth=False)])
    assert starred(journal) == {"3"}


def test_stars_of_an_import_or_a_pass_stay_as_they_are(journal: Journal) -> None:
    """Annotations that were imported into Label Studio are all ground truth, see its `AnnotationSerializer`."""
    journal.record([saved(id, source=EXPORT, ground_truth=True) for id in "12"])
    journal.record([saved(id, ground_truth=True, read_after=journal.position()) for id in "34"])
    assert starred(journal) == {"1", "2", "3", "4"}


def test_an_annotation_keeps_where_it_comes_from(journal: Journal) -> None:
    """Label Studio forgets annotator and prediction when the account or the prediction is deleted."""
    first: dict[str, Any] = {"completed_by": 3, "parent_prediction": 8, "bulk_created": True}
    journal.record([saved(**first)])
    journal.record([saved(time=1, completed_by=None, parent_prediction=None)])
    assert live(journal) == {(LABEL_STUDIO, "1"): first}
    journal.record([saved(read_after=journal.position(), completed_by=None)])
    assert live(journal) == {(LABEL_STUDIO, "1"): first}
    journal.record([saved("2", time=1, completed_by=None), saved("2", completed_by=4)])  # in the other order
    assert live(journal)[LABEL_STUDIO, "2"] == {"completed_by": 4}


def test_a_new_annotation_with_a_used_id_inherits_nothing(journal: Journal) -> None:
    journal.record([saved(completed_by=3)])
    journal.record([AnnotationSaved("4", LABEL_STUDIO, "1", "7", A, at(9), at(9), {"completed_by": None})])
    assert live(journal) == {(LABEL_STUDIO, "1"): {"completed_by": None}}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_one_annotation_in_exports_and_in_label_studio_counts_once(journal: Journal, order: tuple[int, ...]) -> None:
    events = [
        saved("1", time=1, unique_id="u", n=1),
        saved("1", time=9, source=EXPORT, uri=B, unique_id="u", n=2),
        saved("5", time=5, source="export-2.json", uri=B, unique_id="u", n=3),
    ]
    for index in order:
        journal.record([events[index]])
        journal.fold()
    assert live(journal) == {(LABEL_STUDIO, "1"): {"unique_id": "u", "n": 1}}
    assert journal.dirty("4").images == {image_id(A)}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_exports_the_newer_form_counts(journal: Journal, order: tuple[int, ...]) -> None:
    events = [saved(source=f"{n}.json", time=n, unique_id="u", n=n) for n in range(2)]
    for index in order:
        journal.record([events[index]])
    assert live(journal) == {("1.json", "1"): {"unique_id": "u", "n": 1}}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("unique", [{}, {"unique_id": "u"}])
def test_without_a_unique_id_the_id_and_the_exact_time_name_an_annotation(
    journal: Journal, order: tuple[int, ...], unique: dict[str, str]
) -> None:
    """Label Studio's API does not give the unique id, its exports do."""
    exact = at(0.123456)
    live_one = AnnotationSaved("4", LABEL_STUDIO, "1", "7", A, exact, exact, {"n": 1})
    exported = AnnotationSaved("4", EXPORT, "1", "7", A, exact, exact, {"n": 1, **unique})
    for index in order:
        journal.record([(live_one, exported)[index]])
    assert set(live(journal)) == {(LABEL_STUDIO, "1")}
    other = AnnotationSaved("4", "other.json", "1", "7", A, exact + timedelta(microseconds=1), exact, {})
    journal.record([other])
    assert set(live(journal)) == {(LABEL_STUDIO, "1"), ("other.json", "1")}


def test_a_pass_keeps_the_unique_id_of_a_webhook(journal: Journal) -> None:
    journal.record([saved(unique_id="u")])
    journal.record([saved(task="8", read_after=journal.position())])
    journal.record([saved(source=EXPORT, unique_id="u")])
    assert live(journal) == {(LABEL_STUDIO, "1"): {"unique_id": "u"}}


def test_an_export_does_not_bring_back_what_was_deleted_in_label_studio(journal: Journal) -> None:
    journal.record([saved(unique_id="u"), AnnotationDeleted("4", LABEL_STUDIO, "1")])
    journal.record([saved(source=EXPORT, unique_id="u")])
    assert live(journal) == {}


def test_equal_ids_of_different_annotations_are_two(journal: Journal) -> None:
    journal.record([saved(unique_id="u"), saved(source=EXPORT, unique_id="v"), saved(source="other.json")])
    assert len(live(journal)) == 3


def test_what_came_without_a_source_gets_it_later(journal: Journal) -> None:
    journal.record([TaskSaved("4", UNKNOWN_SOURCE, "7", A, at(0)), saved(source=UNKNOWN_SOURCE, n=1)])
    journal.record([saved("2", source=UNKNOWN_SOURCE, n=1), saved("2", time=1, n=2)])
    journal.record([AnnotationDeleted("4", UNKNOWN_SOURCE, "3")])
    journal.fold()
    assert journal.adopt("5", LABEL_STUDIO) == 0
    assert journal.adopt("4", LABEL_STUDIO) == 2
    assert live(journal) == {(LABEL_STUDIO, "1"): {"n": 1}, (LABEL_STUDIO, "2"): {"n": 2}}
    assert [task.source for task in journal.tasks("4")] == [LABEL_STUDIO]
    journal.record([saved("3")])
    assert len(live(journal)) == 2
    assert journal.adopt("4", LABEL_STUDIO) == 0


def test_an_event_that_is_not_folded_gets_its_source_too(journal: Journal) -> None:
    journal.record([saved(source=UNKNOWN_SOURCE)])
    journal.adopt("4", LABEL_STUDIO)
    assert set(live(journal)) == {(LABEL_STUDIO, "1")}


OLD_TABLES = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, project TEXT NOT NULL, kind TEXT NOT NULL,
    received_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE projects (project TEXT PRIMARY KEY, last_event_at REAL NOT NULL, clock TEXT) WITHOUT ROWID;
CREATE TABLE folded (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL);
INSERT INTO folded VALUES (1, 1);
CREATE TABLE annotations (
    project TEXT NOT NULL, annotation_id TEXT NOT NULL, task_id TEXT NOT NULL, image_id TEXT NOT NULL,
    uri TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (project, annotation_id));
CREATE INDEX annotations_image ON annotations (project, image_id, annotation_id);
CREATE TABLE tasks (
    project TEXT NOT NULL, task_id TEXT NOT NULL, image_id TEXT NOT NULL, uri TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (project, task_id));
CREATE INDEX tasks_image ON tasks (project, image_id, task_id);
CREATE TABLE deletions (
    project TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (project, what, id)) WITHOUT ROWID;
CREATE TABLE dirty (
    project TEXT NOT NULL, image_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (project, image_id)) WITHOUT ROWID;
CREATE VIEW live_tasks AS SELECT * FROM tasks;
CREATE VIEW live_annotations AS SELECT * FROM annotations;
CREATE VIEW dirty_images AS SELECT project, image_id, seq, 1 AS present FROM dirty d;
"""


def test_a_journal_of_an_earlier_release_is_migrated(tmp_path: Path) -> None:
    """Also one whose Label Studio had a clock far ahead; an event that was not folded yet is not lost."""
    path, time, ahead = tmp_path / "journal.sqlite", "2026-01-01T12:00:00.000000+00:00", "2099-01-01T00:00:00+00:00"
    body: dict[str, Any] = {
        "project": "4",
        "annotation_id": "3",
        "task_id": "7",
        "uri": A,
        "created_at": time,
        "updated_at": time,
    }
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.executescript(OLD_TABLES)
        for id in "12":
            row = ("4", id, "7", image_id(A), A, time, ahead, json.dumps({"n": 1, "unique_id": id}))
            old.execute("INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.execute("INSERT INTO tasks VALUES ('4', '7', ?, ?, ?, ?, '{}')", (image_id(A), A, time, time))
        old.execute("INSERT INTO deletions VALUES ('4', 'annotation', '2', ?)", (time,))
        old.execute("INSERT INTO projects VALUES ('4', 0, ?)", (time,))
        for seq in (1, 2):
            body |= {"data": {"n": seq}}
            event = (seq, f"key{seq}", "4", "annotation-saved", 0.0, json.dumps(body))
            old.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", event)
        for _ in range(2):  # again after a kill
            migrate(old)
            adopt(old, "4", LABEL_STUDIO)
    with Journal(path) as journal:
        assert journal.position() == 2
        assert {id: data["n"] for (_, id), data in live(journal).items()} == {"1": 1, "3": 2}
        assert journal.sources("4") == [LABEL_STUDIO]
        journal.record([AnnotationSaved("4", LABEL_STUDIO, "1", "7", A, at(0), datetime.now(UTC), {"n": 5})])
        assert live(journal)[LABEL_STUDIO, "1"]["n"] == 5
        journal.record([saved(source=EXPORT, unique_id="1")])
        assert journal.sources("4") == [LABEL_STUDIO]
    with Journal(path) as journal:
        assert live(journal)[LABEL_STUDIO, "1"]["n"] == 5


def test_the_annotation_that_counts_for_one_of_an_export(journal: Journal) -> None:
    exported = saved("1", source=EXPORT, unique_id="u", n=1)
    journal.record([exported])
    journal.fold()
    assert journal.lost([exported]) == []
    record, is_deleted = journal.counterpart(exported)
    assert record is not None
    assert (record.source, is_deleted) == (EXPORT, False)
    journal.record([saved("8", unique_id="u", n=2)])
    journal.fold()
    assert journal.lost([exported]) == [exported]
    record, is_deleted = journal.counterpart(exported)
    assert record is not None
    assert (record.source, record.annotation_id, record.data["n"], is_deleted) == (LABEL_STUDIO, "8", 2, False)
    journal.record([AnnotationDeleted("4", LABEL_STUDIO, "8")])
    journal.fold()
    assert journal.counterpart(exported) == (None, True)
    assert journal.counterpart(saved("2", source=EXPORT)) == (None, False)


def test_chosen_tasks_get_their_source_and_the_others_stay(journal: Journal) -> None:
    former = "former"
    for number in range(1, 5):
        uri = f"/{number}.jpg"
        journal.record([TaskSaved("4", former, str(number), uri, at(0), images={"a": uri, "b": f"/b{number}.jpg"})])
        journal.record([saved(f"{number}{n}", source=former, task=str(number), uri=uri) for n in (1, 2)])
    journal.fold()
    assert journal.adopt("4", EXPORT, former=former, tasks=["1", "2"], annotations=["41", "none"]) == 7
    assert [task.task_id for task in journal.tasks("4", source=EXPORT)] == ["1", "2"]
    assert [found.annotation_id for found in journal.annotations("4", source=EXPORT)] == ["11", "12", "21", "22", "41"]
    assert [found.source for found in journal.annotations("4", image_id("/b1.jpg"))] == [EXPORT] * 2
    assert [found.source for found in journal.annotations("4", image_id("/b3.jpg"))] == [former] * 2
    assert journal.adopt("4", EXPORT, former=former, tasks=[]) == 0
