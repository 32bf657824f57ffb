"""`taxonomist audit`: from an import with wrong labels to the findings."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import PATHS, image_bytes, publish_backbone

WRONG_VIEW, WRONG_ALONE = 5, 32


@pytest.fixture
def project(run: Run, services: Services, tmp_path: Path) -> Services:
    """Eight products of four views and eight single images; a view and a single image have a wrong label."""
    publish_backbone(services)
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "level1", "level2", "product"])
        for number in range(40):
            kind = (number // 4 if number < 32 else number) % 4
            label = PATHS[(kind + 1) % 4 if number in {WRONG_VIEW, WRONG_ALONE} else kind]
            (tmp_path / f"{number}.jpg").write_bytes(image_bytes(PATHS[kind], number))
            table.writerow([f"{number}.jpg", *label, f"p{number // 4 if number < 32 else number}"])
    run_json(run, "import", tmp_path / "m.csv", "--project", "colours")
    return services


def test_wrong_labels_are_found_with_what_contradicts_them(run: Run, project: Services, tmp_path: Path) -> None:
    code, _, err = run("audit")
    assert code == 4
    assert "taxonomist embed --project colours" in err
    run_json(run, "embed")
    before = [document.to_json() for document in project.catalog.documents("colours")]

    found = run_json(run, "audit")
    assert (found["images"], found["not_embedded"], found["notes"]) == (40, 0, [])
    first = found["findings"][0]
    assert Path(first["image"]).name == f"{WRONG_VIEW}.jpg"
    assert (first["reason"], first["votes"]) == ("views", [3, 1])
    assert (first["given"], first["contradicting"]) == ([list(PATHS[2])], [list(PATHS[1])])
    assert Path(first["other_image"]).name in {"4.jpg", "6.jpg", "7.jpg"}
    (second,) = (row for row in found["findings"] if Path(row["image"]).name == f"{WRONG_ALONE}.jpg")
    assert (second["given"], second["contradicting"]) == ([list(PATHS[1])], [list(PATHS[0])])
    assert second["probability"] < second["contradicting_probability"]

    assert len(run_json(run, "audit", "--limit", "1")["findings"]) == 1
    code, _, err = run("audit", "--csv", tmp_path / "found.csv")
    assert code == 0, err
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["found"]
    assert rows[0]["explanation"] == "3 of the views against 1"
    assert [document.to_json() for document in project.catalog.documents("colours")] == before


def test_the_table_and_what_is_refused(run: Run, project: Services, tmp_path: Path) -> None:
    run_json(run, "embed")
    code, out, _ = run("audit", "--limit", "1")
    assert code == 0
    assert "Warm › Yellow" in out
    assert "40 labelled images were checked" in out
    code, out, err = run("audit", "--csv", tmp_path / "none" / "found.csv", "--json")
    assert (code, out) != (0, "")
    assert "found.csv" in err
    code, out, err = run("audit", "--label-studio", "--json")
    assert (code, out) == (2, "")
    assert "No finding has a task" in err
    assert run("audit", "--project", "another")[0] == 4
    assert json.loads(run("audit", "--json")[1])["project"] == "colours"
