"""`taxonomist evaluate --per-image`: what the champion says about each image, as CSV, JSON lines and a file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import PATHS, write_catalogue


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve unseen images. The first stops at level 1, the second has the wrong label, the third is none."""
    manifest = write_catalogue(tmp_path / "unseen", 12, first=500)
    lines = manifest.read_text().splitlines()
    lines[1] = lines[1].replace("Warm,Red", "Warm,")
    lines[2] = lines[2].replace("Warm,Yellow", "Cold,Blue")
    manifest.write_text("\n".join(lines))
    (manifest.parent / "images" / "0502.jpg").write_bytes(b"no image")
    return manifest


def test_the_rows_in_each_form_are_those_of_the_scores(run: Run, trained: Services, manifest: Path) -> None:
    scores = run_json(run, "evaluate", "--manifest", manifest)
    assert "per_image" not in scores
    code, out, err = run("evaluate", "--manifest", manifest, "--per-image")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [Path(row["image"]).name for row in rows] == [f"{number:04d}.jpg" for number in range(500, 512)]
    stops, wrong, unreadable, right = rows[:4]
    assert (stops["label"], stops["right_1"], stops["right_2"]) == ("Warm", "1", "")
    assert (wrong["label"], wrong["likeliest"], wrong["right_1"]) == ("Cold › Blue", " › ".join(PATHS[1]), "0")
    assert "not an image" in unreadable["error"]
    assert (unreadable["label"], unreadable["likeliest"], unreadable["right_1"]) == (" › ".join(PATHS[2]), "", "")
    assert (right["product"], right["suggestion"], right["suggestion_right_2"]) == ("p503", " › ".join(PATHS[3]), "1")
    assert 0.5 < float(right["probability"]) <= 1
    for level in scores["levels"]:
        answers = [row[f"right_{level['level']}"] for row in rows]
        answers = [answer for answer in answers if answer]
        assert (len(answers), answers.count("1") / len(answers)) == (level["images"], level["accuracy"])
        suggested = [row[f"suggestion_right_{level['level']}"] for row in rows]
        suggested = [answer for answer in suggested if answer]
        assert len(suggested) / level["images"] == level["suggested"]
        assert suggested.count("1") / len(suggested) == level["precision"]

    code, out, _ = run("evaluate", "--manifest", manifest, "--per-image", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["image"] for line in lines] == [row["image"] for row in rows]
    assert lines[3]["suggestion"] == list(PATHS[3])
    assert (lines[0]["right"], lines[0]["labels"]) == ([True, None], [["Warm"]])


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_the_rows_become_a_file_beside_the_scores(
    run: Run, trained: Services, manifest: Path, tmp_path: Path, name: str
) -> None:
    code, out, err = run("evaluate", "--manifest", manifest, "--per-image", "--out", tmp_path / name)
    assert code == 0, err
    assert "macro-F1" in out
    assert f"written: {tmp_path / name}" in out
    text = (tmp_path / name).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text))) if name.endswith("csv") else [*map(json.loads, text.splitlines())]
    assert len(rows) == 12
    scores = run_json(run, "evaluate", "--manifest", manifest, "--per-image", "--out", tmp_path / name)
    assert scores["images"] == 11


def test_a_file_without_rows_is_refused(run: Run, trained: Services, manifest: Path, tmp_path: Path) -> None:
    code, _, err = run("evaluate", "--manifest", manifest, "--out", tmp_path / "answers.csv")
    assert code == 2
    assert "--per-image" in err


def test_an_empty_home_says_what_to_do_first(run: Run, manifest: Path) -> None:
    for form in ((), ("--json",)):
        code, out, err = run("evaluate", "--manifest", manifest, "--per-image", *form)
        assert (code, out) == (2, "")
        assert "Run `taxonomist import` or `taxonomist connect` first." in err
