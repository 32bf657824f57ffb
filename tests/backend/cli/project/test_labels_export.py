"""`taxonomist labels export`: what it writes can be imported."""

from __future__ import annotations

import csv
from pathlib import Path

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import write_catalogue


def test_an_export_imports_as_the_same_labels(run: Run, services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 12)
    lines = manifest.read_text().splitlines()
    lines[1] = ",".join([lines[1].split(",")[0], *[""] * lines[1].count(",")])  # without a label
    manifest.write_text("\n".join(lines))
    run_json(run, "import", manifest, "--project", "colours")
    labels = run_json(run, "labels", "export")
    assert len(labels) == 11
    assert labels[0].keys() == {"image_id", "uri", "control", "path", "product", "part", "reason"}
    (missing,) = (row for row in run_json(run, "labels", "export", "--unlabelled") if not row["path"])
    assert missing["reason"]

    file = tmp_path / "labels.csv"
    code, out, err = run("labels", "export", file, "--unlabelled")
    assert code == 0, err
    assert "11 labels of 12 images" in out
    with file.open(newline="", encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == 12
    again = run_json(run, "import", file, "--project", "copy")
    assert (again["images"], again["labelled"]) == (12, 11)
    copied = run_json(run, "labels", "export", "--project", "copy")
    assert [(row["image_id"], row["path"]) for row in copied] == [(row["image_id"], row["path"]) for row in labels]


def test_one_way_out_is_named(run: Run, services: Services, tmp_path: Path) -> None:
    run_json(run, "import", write_catalogue(tmp_path / "c", 4), "--project", "colours")
    for arguments in ((), (tmp_path / "labels.csv", "--json")):
        code, _, err = run("labels", "export", *arguments)
        assert code == 2
        assert "Name a CSV file, or give --json" in err
    code, _, err = run("labels", "export", "--json", "--project", "none")
    assert code == 4
    assert "Known projects: colours" in err
