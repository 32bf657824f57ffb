"""No table that a command writes has a text that a spreadsheet would run as a formula; read again, it is the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from taxonomist.backend.data_stages.files import read_split
from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import PATHS, image_bytes, publish_backbone

KINDS = ("=1+1", "+1+1", "-2+3", "@SUM(A1)", "＝1", "＋1", "－1", "＠a", "plain")
BROKEN = tuple(f"{kind}.jpg" for kind in KINDS)  # as tasks name images that are not there
SIGNS = tuple("=+-@\t\r＝＋－＠")


@pytest.fixture
def formulas(run: Run, services: Services, tmp_path: Path) -> Services:
    """Images whose labels and products begin as formulas do, and addresses that do, too."""
    publish_backbone(services)
    rows = [["file", "level1", "product"]]
    for number in range(4 * len(KINDS)):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(PATHS[number % 4], number))
        rows.append([f"{number}.jpg", KINDS[number % len(KINDS)], f"{KINDS[number % len(KINDS)]} {number}"])
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    tasks = [
        {"id": number, "data": {"image": uri}, "annotations": [], "predictions": []}
        for number, uri in enumerate(BROKEN, start=1)
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    for name in ("m.csv", "tasks.json"):
        code, _, err = run("import", tmp_path / name, "--project", "7")
        assert code == 0, err
    return services


def cells(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as lines:
        found = [cell for row in csv.reader(lines) for cell in row]
    assert [cell for cell in found if cell.startswith(SIGNS)] == []
    return found


def test_the_tables_of_the_stages(run: Run, formulas: Services, tmp_path: Path) -> None:
    out = tmp_path / "data"
    run_json(run, "data", "query", "--out", out)
    split = run_json(run, "data", "split", "--query", out)
    fetched = run_json(run, "data", "fetch", "--query", out, "--out", tmp_path / "images")
    assert {counts["label"] for counts in split["classes"]} >= set(KINDS)
    assert {image.label for image in read_split(out)} >= set(KINDS)
    assert len(fetched["failures"]) == len(KINDS)
    [failures] = tmp_path.glob("images/**/failures.csv")
    for table in (out / "query.csv", out / "split.csv"):
        assert "'=1+1" in cells(table)
    assert set(cells(failures)) >= {f"'{uri}" for uri in BROKEN[:-1]}


def test_the_images_that_could_not_be_prepared(run: Run, formulas: Services) -> None:
    run("prepare")
    [failures] = formulas.home.glob("pictures/*/failures.csv")
    before = cells(failures)
    assert set(before) >= {f"'{uri}" for uri in BROKEN[:-1]}
    forgotten = before.index(f"'{BROKEN[0]}")
    code, _, err = run("forget", "--image", BROKEN[0], "--yes")
    assert code == 0, err
    assert cells(failures) == before[: forgotten - 1] + before[forgotten + 2 :]
