"""The journal folds a set of events to one state, in any order and however often each comes."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import (
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    Journal,
    TaskDeleted,
    TaskSaved,
)

SOURCE = "4.1795531934"
START = datetime(2026, 1, 1, tzinfo=UTC)
IDS = st.sampled_from("12")
SECONDS = st.integers(0, 6)
# These tests do not concern the disk, and waiting for it would take most of the time.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


@st.composite
def annotation_saved(draw: st.DrawFn) -> AnnotationSaved:
    id, created, later = draw(IDS), draw(SECONDS), draw(st.integers(0, 3))
    # One annotation, from its creation on, belongs to one task and image; and one form of it has one content.
    return AnnotationSaved(
        "4",
        SOURCE,
        id,
        str(created % 2),
        f"/data/upload/4/{created % 3}.jpg",
        at(created),
        at(created + later),
        {"n": later},
    )


@st.composite
def task_saved(draw: st.DrawFn) -> TaskSaved:
    id, created, later, image = draw(st.sampled_from("01")), draw(SECONDS), draw(st.integers(0, 2)), draw(SECONDS)
    uri, second = f"/data/upload/4/{image % 3}.jpg", f"/data/upload/4/{draw(st.integers(3, 4))}.jpg"
    images = {"a": uri, "b": second} if draw(st.booleans()) else {}
    return TaskSaved("4", SOURCE, id, uri, at(created), at(created + later), {"n": later}, images)


EVENTS = st.one_of(
    annotation_saved(),
    task_saved(),
    st.builds(AnnotationDeleted, st.just("4"), st.just(SOURCE), IDS, SECONDS.map(at)),
    st.builds(TaskDeleted, st.just("4"), st.just(SOURCE), st.sampled_from("01"), SECONDS.map(at)),
)


def state_after(deliveries: list[tuple[Event, bool]]) -> tuple[Any, ...]:
    """Return the state after these events in order, with a fold after each marked one."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, Journal(Path(folder) / "journal.sqlite") as journal:
        waiting: list[Event] = []
        for event, fold in deliveries:
            waiting.append(event)
            if fold:
                journal.record(waiting)
                journal.fold()
                waiting = []
        journal.record(waiting)
        journal.fold()
        annotations, tasks = list(journal.annotations("4")), list(journal.tasks("4"))
        dirty = journal.dirty("4")
        several = {task.task_id for task in tasks if task.images}
        alive = {annotation.image_id for annotation in annotations if annotation.task_id not in several}
        alive |= {image_id(uri) for task in tasks for uri in (task.uri, *task.images.values())}
        assert dirty.images == alive
        assert not dirty.removed & alive
        return annotations, tasks


@settings(max_examples=200, deadline=None)
@given(data=st.data(), events=st.lists(EVENTS, max_size=12))
def test_order_and_repetition_do_not_matter(data: st.DataObject, events: list[Event]) -> None:
    repeated = events + data.draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    shuffled = data.draw(st.permutations(repeated))
    folds = data.draw(st.lists(st.booleans(), min_size=len(shuffled), max_size=len(shuffled)))
    assert state_after(list(zip(shuffled, folds, strict=True))) == state_after([(event, False) for event in events])
