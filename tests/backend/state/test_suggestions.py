"""What was suggested is kept once per task, control and version, and can be forgotten."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taxonomist.backend.state.suggestions import StoredSuggestion, SuggestionTable

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
