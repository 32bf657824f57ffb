"""`taxonomist models export`: what it writes works without this project."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.heads.discriminant_weights import DiscriminantHead
from taxonomist.training.heads.export import export_model
from taxonomist.training.heads.export.head_graph import head_graph
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import PATHS, write_catalogue

WITHOUT_US = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"taxonomist", "torch"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def services(trained_home: Path, settings: Settings) -> Services:
    shutil.copytree(trained_home, settings.home)
    return Services(settings)


def test_the_example_suggests_without_this_project(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "colours"
    written = run_json(run, "models", "export", "v1", "--project", "7", "--output", folder)
    assert sorted(map(Path, written["files"])) == sorted(folder.iterdir())
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert {tuple(path) for path in labels["controls"][0]["paths"]} == {*PATHS, ("Warm",), ("Cold",)}
    labels["controls"][0]["thresholds"] = [0.5] * 6  # those of so few images are at the edge of rounding
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    write_catalogue(tmp_path, 4)
    files = sorted((tmp_path / "images").iterdir())
    command = [sys.executable, "-c", WITHOUT_US, *map(str, [folder / "example.py", *files])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.rpartition(" (")[0] for line in done.stdout.splitlines()]
    assert said == [f"{file}: colour: {' > '.join(path)}" for file, path in zip(files, PATHS, strict=True)]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| labelled images | 80 |" in card
    assert "6 nodes on 2 levels" in card


def test_a_folder_with_files_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = run("models", "export", "v1", "--project", "7", "--output", tmp_path)
    assert (code, "is not empty" in err) == (2, True)
    assert not (tmp_path / "backbone.onnx").exists()


def test_an_exported_head_that_differs_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_other_weights(head: DiscriminantHead, *rest: Any) -> Any:
        others = {name: replace(one, weight=2 * one.weight) for name, one in head.discriminants.items()}
        return head_graph(DiscriminantHead(others), *rest)

    monkeypatch.setattr(export_model, "head_graph", of_other_weights)
    code, _, err = run("models", "export", "v1", "--project", "7", "--output", tmp_path / "new")
    assert (code, "differs from the served one" in err) == (8, True), err
    assert not (tmp_path / "new").exists()
