"""`taxonomist taxonomy diff|apply` from an import to a changed taxonomy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backend.cli.conftest import Run, run_json
from tests.backend.labelling.taxonomy_changes.conftest import WARMTH
from tests.small_world import CONFIG, write_catalogue


@pytest.fixture
def changed(run: Run, tmp_path: Path) -> None:
    """A project whose taxonomy has another name for one node, and another node in the place of one."""
    manifest, config = write_catalogue(tmp_path / "c", 8), tmp_path / "config.xml"
    for xml in (CONFIG, WARMTH.replace('"Green"', '"Lime = green"')):
        config.write_text(xml)
        run_json(run, "import", manifest, "--project", "colours", "--config", config)


@pytest.mark.usefixtures("changed")
def test_certain_changes_are_applied_and_others_asked_for(run: Run) -> None:
    shown = run("taxonomy", "diff")[1]
    assert "Warm → Warmth" in shown
    assert "Cold › Green → Cold › Lime" in shown
    assert "lets 4 labels count as these nodes" in shown
    assert "2 labels wait" in shown
    found = run_json(run, "taxonomy", "diff")
    assert [(node["old"], node["labels"]) for node in found["certain"]] == [(["Warm"], 4)]
    assert [(node["old"], node["labels"]) for node in found["asked"]] == [(["Cold", "Green"], 2)]

    shown = run("taxonomy", "apply")[1]
    assert "4 labels would count as these nodes. Nothing was changed: add --yes." in shown
    assert not run_json(run, "taxonomy", "apply")["applied"]
    assert run_json(run, "labels", "list")["decisions"] == []
    shown = run("taxonomy", "apply", "--yes")[1]
    assert "4 labels count as these nodes" in shown
    assert "Training still waits" in shown
    assert "Nothing is certain" in run("taxonomy", "apply", "--yes")[1]

    mapped = run_json(run, "taxonomy", "apply", "--map", '["Cold", "Green"] = ["Cold", "Lime = green"]', "--yes")
    assert (mapped["applied"], mapped["labels"], mapped["outside"]["gone"]) == (True, 2, [])
    assert run_json(run, "taxonomy", "diff") == {"certain": [], "asked": []}
    assert "No node that is gone waits" in run("taxonomy", "diff")[1]
    assert len(run_json(run, "labels", "list")["decisions"]) == 2


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("text", ["Cold / Green", "=Cold / Lime", "Cold / Green="])
def test_a_mapping_names_two_nodes(run: Run, text: str) -> None:
    code, _, err = run("taxonomy", "apply", "--map", text, "--yes")
    assert code == 2
    assert "is not OLD=NEW" in err
    assert run_json(run, "labels", "list")["decisions"] == []
