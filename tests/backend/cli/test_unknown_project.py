"""One rule for all commands: a project that is not known is exit code 4, and the message names those that are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.reference import commands
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import write_catalogue

MAKE_PROJECTS = {"connect", "import"}


def commands_of_a_project() -> dict[str, Any]:
    """Return the commands with the option --project, without those that make the project."""
    found = {name: command for name, command in commands().items() if name not in MAKE_PROJECTS}
    return {name: command for name, command in found.items() if any(p.name == "project" for p in command.params)}


def required(command: Any, folder: Path) -> list[str]:
    words = []
    for parameter in command.params:
        if parameter.required:
            words += [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
            words.append(str(folder / "x"))
    return words


@pytest.mark.parametrize("name", commands_of_a_project())
def test_an_unknown_project(run: Run, tmp_path: Path, name: str) -> None:
    run_json(run, "import", write_catalogue(tmp_path / "c", 4), "--project", "colours")
    arguments = [*name.split(), *required(commands()[name], tmp_path)]
    for project in ("colors", "7"):
        code, out, err = run(*arguments, "--project", project)
        assert (code, out) == (4, "")
        assert f"Project {project} is not known." in err
        assert "colours" in err
        assert "Traceback" not in err
    code, out, err = run(*arguments, "--project", "a/b")
    assert (code, out) == (2, "") if name not in {"forget", "status", "data query"} else code in {2, 4}


def test_there_are_such_commands() -> None:
    assert {"train", "evaluate", "sync", "doctor", "status", "forget", "data query"} < commands_of_a_project().keys()


@pytest.mark.parametrize("name", ["sync", "doctor"])
def test_a_project_of_the_label_studio_in_the_settings_may_be_new(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_API_KEY", "t")
    code, out, err = run(name, "--project", "7")
    assert code == (7 if name == "sync" else 1)
    assert "127.0.0.1:1" in out + err
    assert run(name, "--project", "colors")[0] == 4
