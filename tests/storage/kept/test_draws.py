"""How images were drawn stays, places are replaced, and both go with the image or the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taxonomist.storage.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def test_the_first_draw_stays(journal: Journal) -> None:
    journal.draws.add("4", {"a": "random", "b": "before"})
    journal.draws.add("4", {"a": "order", "c": "order"})
    journal.draws.add("5", {"a": "order"})
    assert journal.draws.drawn("4", ["a", "b", "c", "d"]) == {"a": "random", "b": "before", "c": "order"}


def test_places_are_replaced(journal: Journal) -> None:
    for project in ("4", "5"):
        journal.draws.add(project, dict.fromkeys("abc", "random"))
        journal.draws.set_places(project, {"a": 0.5, "b": 0.25})
    journal.draws.set_places("4", {"c": 0.125})
    assert journal.draws.places("4", ["a", "b", "c"]) == {"c": 0.125}
    assert journal.draws.places("5", ["a", "b"]) == {"a": 0.5, "b": 0.25}
    journal.draws.set_places("4", {})
    assert (journal.draws.has_places("4"), journal.draws.has_places("5")) == (False, True)
    assert set(journal.draws.drawn("4", "abc")) == {"a", "b", "c"}


def test_an_image_with_a_place_is_labelled_later(journal: Journal) -> None:
    journal.draws.set_places("4", {"a": 0.5, "b": 0.25})
    assert journal.draws.drawn("4", ["a"]) == {}
    journal.draws.add("4", {"a": "order"})
    assert journal.draws.drawn("4", ["a", "b"]) == {"a": "order"}
    assert journal.draws.places("4", ["a"]) == {"a": 0.5}


def test_a_forgotten_image_and_a_forgotten_project_leave_nothing(journal: Journal) -> None:
    for project in ("4", "5"):
        journal.draws.add(project, {"a": "order", "b": "random"})
    journal.withdrawal.forget_images(["a"], {})
    journal.withdrawal.forget_project("5")
    assert journal.draws.drawn("4", ["a", "b"]) == {"b": "random"}
    assert journal.draws.drawn("5", ["a", "b"]) == {}
