"""From an import to a changed taxonomy and a decision, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.backend.labelling.taxonomy_changes.conftest import SCARLET, WITHOUT_RED
from tests.small_world import CONFIG, publish_backbone, write_catalogue


def test_a_training_is_held_until_a_person_decides(run: Run, services: Services, tmp_path: Path) -> None:
    publish_backbone(services)
    manifest, config = write_catalogue(tmp_path / "c", 80), tmp_path / "config.xml"
    config.write_text(CONFIG)
    run_json(run, "import", manifest, "--project", "colours", "--config", config)
    assert run_json(run, "train")["labels"] == 80
    config.write_text(SCARLET)
    assert run_json(run, "import", manifest, "--project", "colours", "--config", config)["labelled"] == 80

    code, out, err = run("train")
    assert (code, out) == (9, "")
    assert (
        "20 labels name a node that the taxonomy has no longer: Warm › Red (20 labels; the nearest is Warm › Scarlet)"
        in err
    )
    assert "taxonomist labels rename 'Warm / Red' 'Warm / Scarlet' --project colours" in err
    assert [row["version"] for row in run_json(run, "models", "list")] == ["v1"]
    assert run("doctor")[0] == 1
    (project,) = run_json(run, "status")["projects"]
    assert [node["labels"] for node in project["waiting"]["outside"]["gone"]] == [20]
    assert project["model"]["version"] == "v1"
    assert run_json(run, "labels", "list")["gone"][0]["path"] == ["Warm", "Red"]

    done = run("labels", "rename", "Warm / Red", "Warm / Scarlet")[1]
    assert "Warm › Red → Warm › Scarlet" in done
    assert "20 labels count as the other node" in done
    assert "Nothing holds back the training" in done
    trained = run_json(run, "train")
    assert (trained["version"], trained["labels"]) == ("v2", 80)
    data = services.registry.get("project-colours", "v2").head_manifest
    assert ("Warm", "Scarlet") in data.trees_by_control["colour"]
    listed = run("labels", "list")[1]
    assert "Warm › Red → Warm › Scarlet" in listed

    assert "20 labels wait for a decision" in run("labels", "undo", "Warm / Red")[1]
    assert run("train")[0] == 9


@pytest.fixture
def changed(run: Run, tmp_path: Path) -> Path:
    """A project of two kinds of labels whose taxonomy lost one."""
    manifest, config = write_catalogue(tmp_path / "c", 8), tmp_path / "config.xml"
    for xml in (CONFIG, WITHOUT_RED):
        config.write_text(xml)
        run_json(run, "import", manifest, "--project", "colours", "--config", config)
    return manifest


@pytest.mark.usefixtures("changed")
def test_losses_are_accepted_by_name_or_all(run: Run) -> None:
    assert run("labels", "accept-loss")[0] == 2
    assert run("labels", "accept-loss", "--all", "Warm / Red")[0] == 2
    code, _, err = run("labels", "accept-loss", "Warm / Rad")
    assert code == 4
    assert "Similar: Warm / Red" in err
    assert run_json(run, "labels", "accept-loss", "--all")["labels"] == 2
    listed = run_json(run, "labels", "list")
    assert (listed["gone"], listed["accepted"][0]["labels"]) == ([], 2)
    assert listed["decisions"][0]["new"] is None
    assert run("doctor")[0] == 0


@pytest.mark.usefixtures("changed")
def test_the_status_is_readable_in_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = run("status")
    assert code == 0
    assert "Project colours" in out
    assert "Warm / Red: 2" in out
    assert not {"│", "┃"} & set(out)  # no table that a narrow terminal breaks


def test_status_makes_no_home(run: Run, services: Services) -> None:
    code, out, err = run("status")
    assert (code, out) == (4, "")
    assert "no home folder" in err
    assert not services.settings.home.exists()
