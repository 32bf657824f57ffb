"""The benchmarks run and say what they measured; how fast anything is, is not tested."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "Latency",
    "Throughput",
    "Webhooks",
    "40 webhooks under pressure",
    "Bombs",
    "Training the head",
    "Start and memory",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--output", str(folder), "--name", "quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (folder / "quick.md").read_text(encoding="utf-8").strip()
    return folder


def test_each_part_is_measured_on_both_sides(folder: Path) -> None:
    result = json.loads((folder / "quick.json").read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.run --quick --name quick"
    assert result["machine"]["cores"] >= 1
    assert {"torch", "onnxruntime", "scikit-learn"} <= result["machine"]["packages"].keys()
    for part in PARTS:
        rows = [row for row in result["rows"] if row["benchmark"].startswith(part)]
        assert any(row["times_better"] for row in rows), part
    for row in result["rows"]:
        assert row["ours"], row
        assert all(math.isfinite(value) for value in row["ours"]), row
        if row["times_better"] is not None:  # under pressure the peer may answer nothing
            ours, peer = row["ours_spread"]["median"], row["peer_spread"]["median"]
            expected = ours / peer if row["more_is_better"] else peer / ours
            assert row["times_better"] == pytest.approx(expected), row


def test_no_answered_webhook_is_lost(folder: Path) -> None:
    result = json.loads((folder / "quick.json").read_text(encoding="utf-8"))
    lost = [row["ours"] for row in result["rows"] if row["what"] in {"lost", "answered and lost"}]
    assert lost == [[0], [0]]


def test_the_table_has_a_line_for_each_number(folder: Path) -> None:
    result = json.loads((folder / "quick.json").read_text(encoding="utf-8"))
    table = (folder / "quick.md").read_text(encoding="utf-8")
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| |", "| ---"))]
    assert len(lines) == len(result["rows"])
    assert result["command"] in table


def test_pretraining_is_measured_beside_lightlys(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pretraining", "--quick", "--threads", "1", "--device", "cpu"]
    command += ["--output", str(tmp_path), "--name", "quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "quick.md").read_text(encoding="utf-8").strip()
    result = json.loads((tmp_path / "quick.json").read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.pretraining --threads 1 --quick --name quick"
    rows = {row["what"]: row for row in result["rows"]}
    ours, peer = rows["training"]["ours"][0], rows["training"]["peer"][0]
    assert rows["training"]["times_better"] == pytest.approx(ours / peer)
    assert rows["of that limit reached"]["ours"][0] == pytest.approx(ours / rows["encoders alone"]["ours"][0])
    assert all(0 <= rows["waiting for data"][side][0] < 1 for side in ("ours", "peer"))


def test_azure_is_measured_beside_plain_loops(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.azure", "--quick", "--output", str(tmp_path), "--name", "quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "quick.md").read_text(encoding="utf-8").strip()
    result = json.loads((tmp_path / "quick.json").read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.azure --quick --name quick"
    assert {"azure-cosmos", "azurite"} <= result["machine"]["packages"].keys()
    assert {row["benchmark"].partition(":")[0] for row in result["rows"]} == {"Import", "Label query", "Fetch"}
    for row in result["rows"]:
        assert len(row["ours"]) == 1
        assert row["ours"][0] > 0
        if row["what"] != "again":
            assert row["times_better"] == pytest.approx(row["ours"][0] / row["peer"][0])
