"""Imports say what changes without the signatures in addresses; a file that wget stored has one in its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.backend.cli.conftest import Run, run_json
from tests.small_world import CONFIG, PATHS, image_bytes

SECRET = "s3cr3t"
NAMES = tuple(f"{number}.jpg?sv=1&sig={SECRET}" for number in range(12))


def manifest(folder: Path, rows: dict[str, str], name: str = "m.csv") -> Path:
    lines = [f'"{file}",{label}' for file, label in rows.items()]
    (folder / name).write_text("\n".join(["file,level1,level2,annotator", *lines]), encoding="utf-8")
    return folder / name


def test_a_manifest_that_changes(run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(image_bytes(PATHS[0], number))
    rows = dict.fromkeys(NAMES, "Warm,Red,anna")
    run_json(run, "import", manifest(tmp_path, rows), "--project", "p")
    rows |= {NAMES[0]: "Cold,Blue,anna", NAMES[1]: "Warm,Red,bela"}
    del rows[NAMES[2]]
    imported = ("import", manifest(tmp_path, rows), "--project", "p", "--yes")
    for arguments in ((*imported, "--dry-run"), imported):
        changed = run_json(run, *arguments)
        assert len(changed["changed"]) == 3
        assert SECRET not in json.dumps(changed)
    other = manifest(tmp_path, {NAMES[3]: "Cold,Blue,anna"}, "other.csv")
    questions = run_json(run, "import", other, "--project", "p", "--dry-run")["questions"]
    assert len(questions) == 2, questions
    assert SECRET not in json.dumps(questions)


def test_an_export_with_another_task(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text(CONFIG)

    def imported(names: str) -> dict[str, Any]:
        tasks = [
            {"id": number, "data": {"image": f"https://h.test/{name}.jpg?sig={SECRET}"}, "annotations": []}
            for number, name in enumerate(names)
        ]
        (tmp_path / "e.json").write_text(json.dumps(tasks))
        found = run_json(run, "import", tmp_path / "e.json", "--project", "7", "--config", tmp_path / "config.xml")
        assert isinstance(found, dict)
        return found

    imported("abcdefghijklm")
    again = imported("abcdefghijklx")
    assert len(again["problems"]) == 1, again
    assert "https://h.test/x.jpg?…" in again["problems"][0]
    assert SECRET not in json.dumps(again)
