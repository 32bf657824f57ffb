import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import (
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    Journal,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.taxonomy.errors import BadRequestError, DamagedError, StorageError

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
URI = "/data/upload/4/a.jpg"
SOURCE = "4.1795531934"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def saved(
    id: str = "1", *, created: float = 0, updated: float | None = None, task: str = "7", uri: str = URI, n: int = 0
) -> AnnotationSaved:
    return AnnotationSaved(
        "4", SOURCE, id, task, uri, at(created), at(created if updated is None else updated), {"n": n}
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def live(journal: Journal) -> dict[str, int]:
    journal.fold()
    return {record.annotation_id: record.data["n"] for record in journal.annotations("4")}


def test_what_is_recorded_comes_back_whole(journal: Journal) -> None:
    event = AnnotationSaved("4", SOURCE, "1", "7", URI, at(0), at(1), {"result": [{"text": "Bäder 🚽", "score": 0.5}]})
    assert journal.record([event]) == 1
    folded = journal.fold()
    assert (folded.events, folded.images) == (1, frozenset({("4", image_id(URI))}))
    assert not folded.removed
    (record,) = journal.annotations("4", image_id(URI))
    assert (record.task_id, record.uri, record.created_at, record.updated_at) == ("7", URI, at(0), at(1))
    assert record.data == event.data
    assert list(journal.annotations("5")) == []


def test_the_same_annotation_and_time_is_one_event(journal: Journal) -> None:
    assert journal.record([saved(), saved()]) == 1
    assert journal.record([saved(), saved(updated=1)]) == 1
    assert journal.pending() == 2
    assert journal.fold().events == 2
    assert journal.pending() == 0
    assert journal.fold().events == 0


def test_times_of_other_zones_are_the_same_time(journal: Journal) -> None:
    vienna = at(0).astimezone(tz=None)
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, at(0), at(0), {})])
    assert journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, vienna, vienna, {})]) == 0


def test_an_older_form_never_overwrites_a_newer_one(journal: Journal) -> None:
    journal.record([saved(updated=5, n=2)])
    journal.fold()
    journal.record([saved(updated=3, n=1)])
    folded = journal.fold()
    assert (folded.events, folded.images) == (1, frozenset())
    assert live(journal) == {"1": 2}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_what_is_deleted_stays_deleted(journal: Journal, order: tuple[int, ...]) -> None:
    events: list[Event] = [saved(n=1), AnnotationDeleted("4", SOURCE, "1", at(5)), saved(updated=6, n=2)]
    for index in order:
        journal.record([events[index]])
        journal.fold()
    assert live(journal) == {}
    assert journal.dirty("4").removed == {image_id(URI)}


def soon(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def test_what_a_clock_ahead_of_ours_created_is_deleted(journal: Journal) -> None:
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, soon(2), soon(2), {"n": 1})])
    assert live(journal) == {"1": 1}
    journal.record([AnnotationDeleted("4", SOURCE, "1")])
    assert live(journal) == {}


@pytest.mark.parametrize("ahead_h", [0.01, 2, 24 * 400])
def test_what_arrives_last_wins_over_a_time_that_lies_in_the_future(journal: Journal, ahead_h: float) -> None:
    created, ahead = soon(-1), soon(ahead_h)
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, created, ahead, {"n": 1})])
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, created, datetime.now(UTC), {"n": 2})])
    assert live(journal) == {"1": 2}
    journal.record([AnnotationSaved("4", SOURCE, "2", "7", URI, ahead, ahead, {"n": 1})])
    journal.record([AnnotationSaved("4", SOURCE, "2", "7", URI, ahead, datetime.now(UTC), {"n": 2})])
    assert live(journal) == {"1": 2, "2": 2}


def test_an_older_form_that_comes_late_does_not_win_over_a_time_that_lies_in_the_future(journal: Journal) -> None:
    """A webhook of the form before is delivered again, or comes after that of a clock that was ahead."""
    created = soon(-3)
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, created, soon(2), {"n": 2})])
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, created, soon(-1), {"n": 1})])
    assert live(journal) == {"1": 2}


def test_what_was_recorded_while_our_own_clock_was_ahead_can_be_corrected_and_deleted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime(2041, 1, 1, tzinfo=UTC)
    with monkeypatch.context() as ahead:
        ahead.setattr("taxonomist.storage.journal.journal.time.time", then.timestamp)
        journal.record([AnnotationSaved("4", SOURCE, id, "7", URI, then, then, {"n": 1}) for id in "12"])
        journal.record([TaskSaved("4", SOURCE, "8", URI, then, then)])
        journal.record([AnnotationSaved("4", SOURCE, "3", "8", URI, then, then, {"n": 1})])
        assert live(journal) == {"1": 1, "2": 1, "3": 1}
    last = journal.last_event_at("4")
    assert last is not None
    assert last <= time.time()
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, then, datetime.now(UTC), {"n": 2})])
    assert live(journal) == {"1": 2, "2": 1, "3": 1}
    journal.record([AnnotationDeleted("4", SOURCE, "2"), TaskDeleted("4", SOURCE, "8")])
    assert live(journal) == {"1": 2}
    assert list(journal.tasks("4")) == []


def test_a_task_id_used_again_is_a_new_task(journal: Journal) -> None:
    other = "/data/upload/4/b.jpg"
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0)), saved(created=1, n=1)])
    journal.fold()
    journal.done("4", [image_id(URI)], journal.dirty("4").position)
    journal.record([TaskDeleted("4", SOURCE, "7", at(2))])
    folded = journal.fold()
    assert folded.removed == {("4", image_id(URI))}
    assert list(journal.tasks("4")) == []
    journal.record([TaskSaved("4", SOURCE, "7", other, at(3)), saved("2", created=4, uri=other, n=2)])
    assert live(journal) == {"2": 2}
    assert [(task.task_id, task.uri) for task in journal.tasks("4")] == [("7", other)]
    journal.record([TaskDeleted("4", SOURCE, "7", at(2))])
    assert live(journal) == {"2": 2}


def test_a_task_id_used_again_after_a_deletion_that_we_missed(journal: Journal) -> None:
    other = "/data/upload/4/b.jpg"
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0)), saved(created=1, n=1)])
    journal.fold()
    journal.record([TaskSaved("4", SOURCE, "7", other, at(3))])
    folded = journal.fold()
    assert folded.images == {("4", image_id(other))}
    assert folded.removed == {("4", image_id(URI))}
    assert live(journal) == {}


def test_a_missed_deletion_of_a_task_that_we_know_by_its_annotation_only(journal: Journal) -> None:
    journal.record([saved(created=1, n=1)])
    journal.fold()
    journal.record([TaskSaved("4", SOURCE, "7", "/data/upload/4/b.jpg", at(3))])
    assert journal.fold().removed == {("4", image_id(URI))}


def test_the_latest_deletion_counts(journal: Journal) -> None:
    for second in (5, 2):
        journal.record([AnnotationDeleted("4", SOURCE, "1", at(second)), TaskDeleted("4", SOURCE, "8", at(second))])
        journal.fold()
    journal.record([saved(created=3), saved("2", created=3, task="8"), saved("3", created=6, task="8", n=3)])
    assert live(journal) == {"3": 3}


def test_annotations_that_are_older_than_their_task_are_kept(journal: Journal) -> None:
    """An import keeps the time of its annotations and makes the task new."""
    journal.record([saved(created=-1000, n=1), TaskSaved("4", SOURCE, "7", URI, at(0))])
    assert live(journal) == {"1": 1}


def test_a_task_that_only_was_looked_at_changes_nothing(journal: Journal) -> None:
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0), at(0), {"image": URI})])
    journal.fold()
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0), at(9), {"image": URI})])
    assert journal.fold().images == frozenset()
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0), at(10), {"image": URI, "product": "x"})])
    assert journal.fold().images == {("4", image_id(URI))}


def test_images_stay_dirty_until_they_are_done(journal: Journal, tmp_path: Path) -> None:
    journal.record([saved()])
    folded = journal.fold()
    with Journal(tmp_path / "journal.sqlite") as after_a_crash:
        assert after_a_crash.fold().images == frozenset()
        assert after_a_crash.dirty_projects() == ["4"]
        assert after_a_crash.dirty("4").images == {image_id(URI)}
        after_a_crash.done("4", [image_id(URI)], folded.position)
        assert after_a_crash.dirty_projects() == []


def test_dirty_images_are_read_in_pages(journal: Journal) -> None:
    journal.record([saved(str(n), task=str(n), uri=f"/data/upload/4/{n}.jpg") for n in range(25)])
    journal.record([AnnotationDeleted("4", SOURCE, str(n), at(5)) for n in range(5)])
    journal.fold()
    whole = journal.dirty("4")
    pages, after = [], ""
    while (page := journal.dirty("4", 10, after=after)).last:
        pages.append(page)
        after = page.last
    assert [len(page.images | page.removed) for page in pages] == [10, 10, 5]
    assert frozenset().union(*(page.images for page in pages)) == whole.images
    assert frozenset().union(*(page.removed for page in pages)) == whole.removed
    assert len(whole.removed) == 5
    journal.done("4", pages[0].images, pages[0].position)
    journal.record([saved(str(n), task=str(n), updated=7, uri=f"/data/upload/4/{n}.jpg") for n in range(5, 25)])
    journal.fold()
    journal.done("4", pages[1].images, pages[1].position)  # they have changed again since they were read
    assert journal.dirty("4").images == whole.images


def test_what_changes_while_it_is_worked_on_stays_dirty(journal: Journal) -> None:
    journal.record([saved()])
    work = journal.dirty("4") if journal.fold().events else None
    assert work is not None
    journal.record([saved(updated=1)])
    journal.fold()
    journal.done("4", work.images, work.position)
    assert journal.dirty("4").images == work.images


def test_quiet_is_measured_from_new_events(journal: Journal) -> None:
    assert journal.last_event_at("4") is None
    journal.record([saved()])
    first = journal.last_event_at("4")
    assert first is not None
    journal.record([saved()])
    assert journal.last_event_at("4") == first


def test_compacting_keeps_the_state(journal: Journal) -> None:
    journal.record([saved(n=1), saved("2", n=2), AnnotationDeleted("4", SOURCE, "2", at(5))])
    journal.fold()
    journal.record([saved("3", n=3)])
    assert journal.compact(keep_days=-1) == 3
    assert journal.pending() == 1
    assert live(journal) == {"1": 1, "3": 3}
    # An event that was forgotten and comes again changes nothing.
    journal.record([saved(n=1), saved("2", n=2)])
    assert journal.fold().images == frozenset()
    assert live(journal) == {"1": 1, "3": 3}


def test_reading_goes_over_pages(journal: Journal) -> None:
    journal.record([saved(f"{n:04}", uri=f"/data/upload/4/{n}.jpg", n=n) for n in range(1201)])
    folded = journal.fold()
    assert (folded.events, len(folded.images)) == (1201, 1201)
    assert [record.data["n"] for record in journal.annotations("4")] == list(range(1201))


@pytest.mark.parametrize(
    "event",
    [
        AnnotationSaved("4", SOURCE, "1", "7", URI, datetime(2026, 1, 1), at(0), {}),
        AnnotationSaved("4", SOURCE, "1", "7", "/data/\ud800.jpg", at(0), at(0), {}),
        AnnotationSaved("4", SOURCE, "1", "7", URI, at(0), at(0), {"n": object()}),
        TaskSaved("4", SOURCE, "7", URI, at(0), images={"a": URI, "b": "/data/\ud800.jpg"}),
    ],
)
def test_what_cannot_be_stored_is_refused_and_harms_nobody(journal: Journal, event: Event) -> None:
    with pytest.raises(BadRequestError):
        journal.record([saved(), event])
    assert journal.pending() == 0


def test_an_event_that_cannot_be_folded_does_not_stop_the_others(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    data = json.loads('{"n": 2, "unique_id": "\\ud800"}')
    broken = AnnotationSaved("4", SOURCE, "2", "7", URI, at(0), at(0), data)
    journal.record([saved("1"), broken, saved("3")])
    assert live(journal) == {"1": 0, "3": 0}
    assert "event 2 of the journal (annotation-saved) cannot be used and is left out" in caplog.text
    journal.record([saved("4")])
    assert live(journal) == {"1": 0, "3": 0, "4": 0}


def test_broken_text_inside_the_data_is_kept_as_it_came(journal: Journal) -> None:
    data = json.loads('{"n": 1, "text": "\\ud800"}')
    journal.record([AnnotationSaved("4", SOURCE, "1", "7", URI, at(0), at(0), data)])
    journal.fold()
    assert next(journal.annotations("4")).data == data


def test_many_threads_at_once_each_counted_once(journal: Journal) -> None:
    new: Counter[int] = Counter()
    lock = threading.Lock()
    start = threading.Barrier(16)

    def client(number: int) -> None:
        start.wait()
        for n in range(60):
            # Neighbours send the same event, as a reconcile pass does beside the webhook.
            count = journal.record([saved(f"{number // 2}-{n}")])
            with lock:
                new[number] += count

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new.values()) == journal.pending() == 8 * 60
    assert len(live(journal)) == 8 * 60


def test_a_failed_commit_raises_in_every_caller_of_it(journal: Journal, tmp_path: Path) -> None:
    journal.record([saved()])
    with sqlite3.connect(tmp_path / "journal.sqlite") as other:
        other.execute("ALTER TABLE events RENAME TO lost")
    other.close()
    with pytest.raises(StorageError):
        journal.record([saved("2")])


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database, not at all" * 100)
    with Journal(tmp_path / "journal.sqlite") as journal, pytest.raises(DamagedError, match="move it aside"):
        journal.record([saved()])


def two(task: str = "7", left: str = URI, right: str = "/b.jpg", *, created: float = 0, data: int = 0) -> TaskSaved:
    images = {"left": left, "right": right}
    return TaskSaved("4", SOURCE, task, left, at(created), at(created), {"n": data}, images)


def test_the_annotations_of_a_task_with_two_images_belong_to_both(journal: Journal) -> None:
    journal.record([two(), saved()])
    folded = journal.fold()
    assert folded.images == {("4", image_id(URI)), ("4", image_id("/b.jpg"))}
    for uri in (URI, "/b.jpg"):
        (record,) = journal.annotations("4", image_id(uri))
        (task,) = journal.tasks("4", image_id(uri))
        assert (record.annotation_id, record.uri, record.task_data) == ("1", uri, {"n": 0})
        assert (task.task_id, task.uri, task.images) == ("7", uri, {"left": URI, "right": "/b.jpg"})
    (record,) = journal.annotations("4")  # each once
    assert (record.uri, record.task_data) == (URI, None)


@pytest.mark.parametrize("first", [True, False])
def test_the_second_image_follows_corrections_and_deletions(journal: Journal, first: bool) -> None:
    journal.record([two(), saved()] if first else [saved(), two()])
    journal.fold()
    journal.record([two(right="/c.jpg", created=1)])
    folded = journal.fold()
    assert folded.images == {("4", image_id(URI)), ("4", image_id("/c.jpg"))}
    assert folded.removed == {("4", image_id("/b.jpg"))}
    journal.record([saved(updated=3, n=5)])
    assert journal.fold().images == {("4", image_id(URI)), ("4", image_id("/c.jpg"))}
    journal.record([AnnotationDeleted("4", SOURCE, "1", at(4))])
    assert journal.fold().images == {("4", image_id(URI)), ("4", image_id("/c.jpg"))}
    journal.record([TaskDeleted("4", SOURCE, "7", at(5))])
    assert journal.fold().removed == {("4", image_id(URI)), ("4", image_id("/c.jpg"))}


def test_a_task_that_loses_its_second_image(journal: Journal) -> None:
    journal.record([two(), saved()])
    journal.fold()
    journal.record([TaskSaved("4", SOURCE, "7", URI, at(0), at(1), {})])
    folded = journal.fold()
    assert folded.images == {("4", image_id(URI))}
    assert folded.removed == {("4", image_id("/b.jpg"))}
    assert [record.task_data for record in journal.annotations("4", image_id(URI))] == [None]
    assert list(journal.annotations("4", image_id("/b.jpg"))) == []
