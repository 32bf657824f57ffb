"""`taxonomist settings`: what is in force for a project, where it comes from, and its change."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import CONFIG, publish_backbone, write_catalogue


def test_the_command_shows_and_changes_them(run: Run, services: Services) -> None:
    services.projects.update("4", label_config=CONFIG)
    services.projects.update("5", label_config=CONFIG)
    changed = run_json(run, "settings", "--project", "4", "annotators=1", "product_field=sku")
    assert changed["annotators"] == {"value": 1, "origin": "project"}
    assert run_json(run, "settings", "--project", "4")["product_field"] == {"value": "sku", "origin": "project"}
    assert run_json(run, "settings", "--project", "5")["annotators"] == {"value": 2, "origin": "default"}
    assert services.agreement("4").min_annotators == 1
    assert services.agreement("5").min_annotators == 2
    code, out, error = run("settings", "--project", "4", "annotators=0")
    assert code == 2
    assert "annotators" in error
    assert not out
    assert run("settings", "--project", "6", "annotators=1")[0] != 0
    assert [record.project for record in services.projects] == ["4", "5"]


def test_another_product_field_is_fetched_from_label_studio(run: Run, services: Services) -> None:
    services.projects.update("4", label_config=CONFIG, label_studio_url="http://localhost:1", api_key=SecretStr("key"))
    run("settings", "--project", "4", "target=0.7")
    assert services.jobs.waiting() == []
    run("settings", "--project", "4", "product_field=sku")
    assert [job.kind for job in services.jobs.waiting()] == [JobKind.SYNC]


@pytest.mark.slow
def test_with_manual_promotion_a_person_promotes_each_version(run: Run, services: Services, tmp_path: Path) -> None:
    publish_backbone(services)
    run_json(run, "import", write_catalogue(tmp_path / "c", 24), "--project", "colours")
    run("settings", "promotion=manual")
    first = run_json(run, "train")
    assert (first["champion"], first["promoted"]) == (False, False)
    assert first["reason"].startswith("A person promotes the versions of this project.")
    run("models", "promote", "v1")
    second = run_json(run, "train", "--force")
    assert (second["champion"], second["promoted"]) == (False, False)
    assert "It is not worse: hierarchical F1" in second["reason"]
    for command in ("status", "doctor"):
        said = " ".join(run(command)[1].split())
        assert "v2 is trained and not promoted" in said
        assert "It is not worse: hierarchical F1" in said
        assert "taxonomist models promote v2 --project colours" in said
    shown = run("models", "show", "v2")[1]
    assert "The comparison, on" in shown
    assert "images learned from" in shown
    run("settings", "promotion=")
    assert run_json(run, "train", "--force")["champion"]
