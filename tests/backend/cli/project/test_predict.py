"""`taxonomist predict`: from a folder of images to paths, in text, CSV and JSON."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import PATHS, image_bytes, publish_backbone, write_catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of which one is below, a file that is none, and a hidden one."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(image_bytes(PATHS[0], 7))
    (folder / "below" / "b.JPG").write_bytes(image_bytes(PATHS[2], 8))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(image_bytes(PATHS[0], 7))
    return folder


@pytest.fixture
def trained(run: Run, services: Services, tmp_path: Path) -> Services:
    publish_backbone(services)
    run_json(run, "import", write_catalogue(tmp_path / "seen", 80), "--project", "colours")
    run_json(run, "train")
    return services


def test_a_folder_is_predicted_in_each_form(run: Run, trained: Services, folder: Path, tmp_path: Path) -> None:
    found = run_json(run, "predict", folder)
    assert (found["project"], found["version"]) == ("colours", "v1")
    images = [str(folder / "a.jpg"), str(folder / "below" / "b.JPG")]
    assert [(row["image"], row["path"]) for row in found["predictions"]] == [
        (images[0], list(PATHS[0])),
        (images[1], list(PATHS[2])),
    ]
    code, out, err = run("predict", folder)
    assert code == 0, err
    assert "2 images; with a path: 2." in out
    code, out, err = run("predict", folder, folder / "a.jpg", "--csv", tmp_path / "found.csv")
    assert code == 0, err
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["path"]) for row in rows] == [
        (image, " › ".join(path)) for image, path in zip(images, (PATHS[0], PATHS[2]), strict=True)
    ]
    assert trained.catalog.count("colours") == 80  # nothing is stored


def test_the_projects_are_listed(run: Run, trained: Services) -> None:
    (row,) = run_json(run, "projects")
    assert (row["project"], row["images"], row["labelled"], row["model"]) == ("colours", 80, 80, "v1")
    assert row["macro_f1"]["taxonomy"] > 0.9
    code, out, _ = run("projects")
    assert code == 0
    assert "colours" in out


def test_an_image_that_cannot_be_read_is_named(run: Run, trained: Services, folder: Path) -> None:
    (folder / "c.jpg").write_bytes(b"no image")
    code, out, _ = run("predict", folder)
    assert code == 1
    assert f"not readable: {folder / 'c.jpg'}: " in out
    assert "not an image" in out
    assert "with a path: 2, not readable: 1." in out


def test_a_name_that_is_not_unicode(run: Run, trained: Services, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/=caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(image_bytes(PATHS[0], 7))
    (row,) = run_json(run, "predict", Path(os.fsdecode(name)))["predictions"]
    assert row["path"] == list(PATHS[0])
    assert os.fsencode(row["image"]) == name
    assert run("predict", Path(os.fsdecode(name)))[0] == 0


def test_what_cannot_be_predicted(run: Run, services: Services, tmp_path: Path) -> None:
    assert run("projects")[0] == 4
    code, _, err = run("predict", tmp_path / "none.jpg")
    assert code == 2
    assert "taxonomist import" in err  # an empty home
    run_json(run, "import", write_catalogue(tmp_path / "seen", 8), "--project", "colours")
    (tmp_path / "empty").mkdir()
    for path, problem in (("none.jpg", "no file or folder"), ("empty", "has no image file")):
        code, _, err = run("predict", tmp_path / path)
        assert code == 2
        assert problem in err
    code, _, err = run("predict", tmp_path / "seen")
    assert code == 4
    assert "taxonomist embed --project colours" in err
