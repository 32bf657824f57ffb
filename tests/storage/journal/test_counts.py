"""What SQLite counts of the journal, and the paths that no taxonomy has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taxonomist.storage.journal import (
    AnnotationDeleted,
    AnnotationSaved,
    Journal,
    SourceCounts,
    TaskSaved,
    UnknownLabels,
)

TIME = datetime(2026, 11, 24, 15, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def saved(id: int, person: Any, source: str = "export.json", **data: Any) -> AnnotationSaved:
    uri = f"/data/{id}.jpg"
    return AnnotationSaved("4", source, str(id), str(id), uri, TIME, TIME, {"id": id, "completed_by": person} | data)


def test_sources_and_people(journal: Journal) -> None:
    journal.record([TaskSaved("4", "4.1795531934", "1", "/data/1.jpg", TIME), saved(1, 3, "4.1795531934")])
    journal.record(
        [saved(11, {"id": 3, "email": "a@x"}), saved(12, {"email": "b@x"}), saved(13, "carl"), saved(14, None)]
    )
    journal.record([saved(15, "dora"), AnnotationDeleted("4", "export.json", "15", TIME)])
    journal.fold()
    assert journal.counts.sources("4") == [SourceCounts("4.1795531934", 1, 1), SourceCounts("export.json", 0, 4)]
    assert journal.counts.people("4") == 4  # 3, b@x, carl, and one without a name
    assert journal.counts.dirty("4") == 6
    assert (journal.counts.sources("5"), journal.counts.people("5"), journal.counts.dirty("5")) == ([], 0, 0)


def test_the_model_is_nobody_and_each_nameless_annotation_a_person(journal: Journal) -> None:
    """As `parse_annotation` has it."""
    journal.record(
        [
            saved(1, 3, lead_time=2.5, parent_prediction=7),
            saved(2, 4, lead_time=None, parent_prediction=8, ground_truth=False, reviews=[]),
            saved(3, 5, parent_prediction=9, result=[]),
            saved(4, 6, lead_time=None, parent_prediction=None),  # made through the API
            saved(5, 7, lead_time=None, parent_prediction=10, ground_truth=True),
            saved(6, 8, lead_time=None, parent_prediction=11, reviews=[{"accepted": True}]),
        ]
    )
    journal.fold()
    assert journal.counts.people("4") == 4  # 3, 6, 7 and 8
    journal.record([saved(id, None) for id in (21, 22)])
    journal.record([saved(id, None, created_username=" anna@example.com, 30") for id in (23, 24)])
    journal.fold()
    assert journal.counts.people("4") == 7


def test_unknown_paths_are_replaced_image_by_image(journal: Journal) -> None:
    red, blue = ("colour", ("Warm", "Röd")), ("colour", ("Cold",))
    journal.unknown_paths.keep("4", {"a": {red: 2}, "b": {red: 1, blue: 1}, "c": {}})
    journal.unknown_paths.keep("5", {"a": {red: 7}})
    assert journal.unknown_paths.labels("4") == [
        UnknownLabels("colour", ("Warm", "Röd"), 3),
        UnknownLabels("colour", ("Cold",), 1),
    ]
    journal.unknown_paths.keep("4", {"a": {}, "b": {blue: 1}})
    assert journal.unknown_paths.labels("4") == [UnknownLabels("colour", ("Cold",), 1)]
    journal.unknown_paths.keep("4", {"b": {}})
    assert journal.unknown_paths.labels("4") == []
    assert journal.unknown_paths.labels("5") == [UnknownLabels("colour", ("Warm", "Röd"), 7)]


def test_many_images_without_unknown_paths_write_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.unknown_paths.keep("4", {"x": {("colour", ("Cold",)): 1}})
    monkeypatch.setattr("taxonomist.storage.sqlite.Database.write", None)
    journal.unknown_paths.keep("4", {f"image {number}": {} for number in range(1000)})
