"""What was suggested is kept once per task, control and version, and can be forgotten."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taxonomist.backend.state import suggestions
from taxonomist.backend.state.suggestions import Answer, AnswerCount, StoredSuggestion, SuggestionTable

FIRST = StoredSuggestion("5", "colour", "taxonomist-v1", "a-1", ("Warm", "Red"), 0.9, 100.0)


@pytest.fixture
def table(tmp_path: Path) -> SuggestionTable:
    return SuggestionTable(tmp_path / "suggestions.sqlite")


def test_a_repeated_suggestion_keeps_its_time(table: SuggestionTable) -> None:
    table.add("4", [FIRST])
    table.add("4", [replace(FIRST, at=200.0, score=0.91)])
    assert table.of_tasks("4", ["5"]) == [FIRST]


@pytest.mark.parametrize("change", [{"path": ("Cold",)}, {"image_id": "b-2"}])
def test_another_suggestion_of_the_same_version_replaces_it(table: SuggestionTable, change: dict[str, object]) -> None:
    table.add("4", [FIRST])
    later = replace(FIRST, at=200.0, **change)  # type: ignore[arg-type]
    table.add("4", [later])
    assert table.of_tasks("4", ["5"]) == [later]


def test_versions_controls_tasks_and_projects_are_apart(table: SuggestionTable) -> None:
    rows = [
        FIRST,
        replace(FIRST, version="taxonomist-v2", at=300.0),
        replace(FIRST, control="shape", path=("Round é",), at=50.0),
        replace(FIRST, task_id="6"),
    ]
    table.add("4", rows)
    table.add("40", [replace(FIRST, path=("Cold",))])
    assert table.of_tasks("4", ["5"]) == rows[:3]
    assert table.of_tasks("4", ["6", "7"]) == [rows[3]]
    assert (table.count("4"), table.count("40"), table.count("7")) == (4, 1, 0)


def test_they_are_deleted_by_project_task_or_image(table: SuggestionTable) -> None:
    for project in ("4", "5", "6"):
        table.add(project, [FIRST, replace(FIRST, task_id="6", image_id="b-2")])
    assert table.delete(project="4") == 2
    assert table.delete(project="5", task_ids=["6", "7"]) == 1
    assert table.delete(image_ids=["a-1", "c-3"]) == 2
    assert (table.count("4"), table.count("5"), table.count("6")) == (0, 0, 1)
    assert table.delete(project="6", image_ids=[]) == 0
    with pytest.raises(ValueError, match="condition"):
        table.delete()


def test_a_killed_process_loses_none(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path;"
        "from taxonomist.backend.state.suggestions import StoredSuggestion, SuggestionTable;"
        "SuggestionTable(Path(sys.argv[1])).add('4', [StoredSuggestion('5', 'c', 'v', 'i', ('a',), 1.0, 1.0)]);"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "suggestions.sqlite"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert SuggestionTable(path).count("4") == 1


def answer(task: str, at: float, product: str, *, right: bool = True) -> Answer:
    return Answer(task, FIRST.control, FIRST.version, at, right, product)


def answered(table: SuggestionTable) -> list[tuple[float, bool, bool]]:
    return [row[1:] for row in table.answered("4", [FIRST.version], FIRST.control)]


def test_answers_come_in_their_order_and_once_for_each_product(table: SuggestionTable) -> None:
    scores = {"5": 0.9, "6": 0.8, "7": 0.7, "8": 0.6}
    images = [f"a-{task}" for task in scores]
    table.add("4", [replace(FIRST, task_id=id, image_id=f"a-{id}", score=scores[id]) for id in scores])
    answers = [answer("5", 400, "p"), answer("6", 200, "p", right=False), answer("7", 300, "q"), answer("8", 100, "r")]
    table.keep_answers("4", images, answers)
    expected = [(0.6, True, False), (0.8, False, False), (0.7, True, False)]
    assert answered(table) == expected
    assert table.answer_counts("4", FIRST.version) == [AnswerCount(2, False, 4, 3)]
    table.keep_answers("4", images, answers[:1])
    assert answered(table) == [(0.9, True, False)]


def test_answers_go_with_their_suggestions_and_floors_with_the_project(table: SuggestionTable) -> None:
    table.add("4", [FIRST, replace(FIRST, task_id="6", image_id="a-6", blind=True)])
    table.keep_answers("4", ["a-1", "a-6"], [answer("5", 100, "p"), answer("6", 200, "q")])
    table.keep_floors("4", FIRST.version, {FIRST.control: math.inf})
    table.delete(image_ids=["a-1"])
    assert table.answer_counts("4", FIRST.version) == [AnswerCount(2, True, 1, 1)]
    table.add("4", [FIRST])
    assert table.answer_counts("4", FIRST.version) == [AnswerCount(2, True, 1, 1)]
    assert table.floors("4", FIRST.version) == {FIRST.control: math.inf}
    table.delete(project="4")
    assert table.floors("4", FIRST.version) == {}


def test_suggestions_of_an_earlier_release_can_be_answered(tmp_path: Path) -> None:
    table = SuggestionTable(tmp_path / "suggestions.sqlite")
    table.add("4", [FIRST])
    with sqlite3.connect(tmp_path / "suggestions.sqlite") as file:
        file.execute("DROP TRIGGER answers_of_deleted")
        file.execute("DROP TABLE answers")
        file.execute("DROP TABLE floors")
    table = SuggestionTable(tmp_path / "suggestions.sqlite")
    assert table.of_images("4", ["a-1"]) == [FIRST]
    table.keep_answers("4", ["a-1"], [answer("5", 200, "p", right=False)])
    assert answered(table) == [(0.9, False, False)]


@pytest.mark.parametrize("most_sorted", [0, 100])
def test_judged_images_come_once_and_in_order(
    table: SuggestionTable, monkeypatch: pytest.MonkeyPatch, most_sorted: int
) -> None:
    monkeypatch.setattr(suggestions, "MOST_SORTED", most_sorted)
    for project, version in (("4", "v1"), ("4", "v2"), ("5", "v1")):
        for number in range(20):
            is_wrong = number % 2 if version == "v1" else 1
            for control in ("room", "use"):  # two tasks of one image, and two controls
                for task in (str(number), f"{number}-again"):
                    row = StoredSuggestion(task, control, version, f"image-{number:02}", ("A",), 0.9, 1.0)
                    table.add(project, [row])
                    table.keep_answers(project, [], [Answer(task, control, version, 2.0, not is_wrong, "p")])
    table.add("4", [StoredSuggestion("x", "room", "v1", "image-05b", ("A",), 0.9, 1.0)])  # without an answer
    assert table.judged_images("4", "v1", right=False, limit=3) == ["image-01", "image-03", "image-05"]
    assert table.judged_images("4", "v1", right=False, after="image-05", limit=99)[0] == "image-07"
    assert len(table.judged_images("4", "v1", right=True, limit=99)) == 10
    assert table.judged_images("4", "v2", right=True, limit=99) == []
