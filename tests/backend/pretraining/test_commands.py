"""`taxonomist prepare` and `taxonomist backbone …`, and a rollback of models that takes the backbone along."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from taxonomist.backend.cli import main
from taxonomist.backend.pretraining.adopt import adopt
from taxonomist.backend.retraining.training_job import train_head
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.registry import ModelVersion

pytestmark = pytest.mark.slow

Run = Callable[..., str]


@pytest.fixture
def run(poor: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `taxonomist …` on the home folder, which must succeed; returns its output."""

    def command(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["taxonomist", "--home", str(poor.settings.home), *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert not end.value.code, err
        return out

    return command


def silent(step: str, share: float) -> None: ...


def test_prepare_reads_what_is_new(run: Run) -> None:
    first = json.loads(run("prepare", "--json"))
    assert first == {"size": 32, "images": 80, "pictures": 80, "new": 80, "failures": {}}
    assert json.loads(run("prepare", "--json"))["new"] == 0
    assert "64 pixels" in run("prepare", "--size", "64")


def test_list_and_show(run: Run, better: ModelVersion) -> None:
    rows = json.loads(run("backbone", "list", "--json"))
    assert [(row["version"], row["champion"], row["architecture"]) for row in rows] == [
        ("v1", True, "brightness"),
        ("v2", False, "mean colours"),
    ]
    assert "champion" in run("backbone", "list")
    assert json.loads(run("backbone", "show", "v2", "--json"))["dimension"] == 48
    assert "backbone.onnx" in run("backbone", "show", "v2")


def test_promote_takes_the_heads_along_that_there_are(run: Run, poor: Services, better: ModelVersion) -> None:
    assert "Project 7 has no model on it and keeps its own" in run("backbone", "promote", "v2")
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v1"}
    assert [job.project for job in poor.jobs.waiting() if job.kind is JobKind.EMBED] == ["7"]
    run("backbone", "rollback")
    train_head(poor, "7", silent, better, promote=False)
    assert "Project 7 is served by taxonomist-v2." in run("backbone", "promote", "v2")
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v2"}


def test_promote_leaves_the_head_of_a_project_to_the_person_who_promotes_its_versions(
    run: Run, poor: Services, better: ModelVersion
) -> None:
    train_head(poor, "7", silent, better, promote=False)
    run("settings", "promotion=manual")
    output = run("backbone", "promote", "v2")
    assert "taxonomist models promote v2 --project 7 serves the new one" in output
    assert "keeps its own until" not in output
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v1"}


@pytest.mark.parametrize("command", [("backbone", "rollback"), ("models", "rollback")])
def test_either_rollback_restores_both(
    run: Run, poor: Services, better: ModelVersion, command: tuple[str, ...]
) -> None:
    adopt(poor, better, silent, lambda: False)
    output = run(*command)
    assert output.splitlines() == [
        "New images are embedded by backbone v1 again.",
        "Project 7 is served by taxonomist-v1 again.",
    ]
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}


def test_the_starter_that_ships_is_adopted(run: Run, poor: Services) -> None:
    assert "Backbone v2 is served now, with taxonomist-v2 of project 7" in run("backbone", "adopt", "starter")
    assert poor.registry.get("backbone", "v2").backbone_manifest.starter
    assert run("backbone", "adopt", "starter") == "Backbone v2 is served.\n"
