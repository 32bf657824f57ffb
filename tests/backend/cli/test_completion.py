"""Shell completion: commands, projects, versions and settings, without a trace in the home folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.backend.cli import main
from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """Returns what bash gets for `taxonomist --home … WORDS`, of which the last one is completed."""

    def completed(*words: str, home: Path = services.settings.home) -> list[str]:
        line = ["taxonomist", "--home", str(home), *words]
        monkeypatch.setattr(sys, "argv", ["taxonomist"])
        monkeypatch.setenv("_TAXONOMIST_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(line))
        monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out.split()

    return completed


def test_names_of_commands_and_options(complete: Complete) -> None:
    assert complete("mod") == ["models"]
    assert {"demo", "train", "predict", "cosmos"} <= set(complete(""))
    assert complete("models", "") == ["list", "show", "promote", "rollback", "export"]
    assert complete("evaluate", "--per") == ["--per-image"]


def test_projects_versions_and_settings(complete: Complete, trained: Services) -> None:
    trained.projects.update("büro", label_config="")
    assert complete("train", "--project", "7") == ["7"]
    assert " ".join(complete("status", "--project", "")) == "7 büro"
    trained.projects.remove("büro")
    assert complete("models", "show", "") == ["v1"]  # of the only project
    assert complete("models", "promote", "--project", "7", "v") == ["v1"]
    assert complete("models", "promote", "--project", "8", "v") == []
    assert complete("backbone", "adopt", "") == ["v1", "starter"]
    assert complete("settings", "ann") == ["annotators="]


def test_versions_are_in_order_of_their_numbers(complete: Complete, services: Services) -> None:
    for number in (2, 10, 9):
        folder = services.settings.home / "models" / "backbone" / f"v{number}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    (services.settings.home / "models" / "backbone" / "v11").mkdir()  # not whole
    assert complete("backbone", "show", "") == ["v10", "v9", "v2"]


def test_nothing_is_made_and_nothing_fails(complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete("models", "show", "", home=tmp_path / "none") == []
    assert complete("train", "--project", "", home=tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("TAXONOMIST_TARGET_PRECISION", "wrong")
    assert complete("train", "--project", "") == []


def test_the_names_of_the_commands_import_no_module_of_a_command() -> None:
    code = (
        "import os, sys, taxonomist.backend.cli as cli\n"
        "os.environ |= {'_TAXONOMIST_COMPLETE': 'complete_bash', 'COMP_WORDS': 'taxonomist ', 'COMP_CWORD': '1'}\n"
        "sys.argv = ['taxonomist']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "loaded = {'torch', 'onnxruntime', 'taxonomist.backend.cli.demo'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert "train" in done.stdout.split()


def test_a_version_is_completed_without_torch(trained: Services) -> None:
    line = f"taxonomist --home {trained.settings.home} models show "
    code = (
        "import os, sys, taxonomist.backend.cli as cli\n"
        f"os.environ |= {{'_TAXONOMIST_COMPLETE': 'complete_bash', 'COMP_WORDS': {line!r}, 'COMP_CWORD': '5'}}\n"
        "sys.argv = ['taxonomist']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["v1"]


def test_the_script_completes_in_bash(run: Run, trained: Services, tmp_path: Path) -> None:
    program = tmp_path / "taxonomist"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m taxonomist "$@"\n')
    program.chmod(0o700)
    script = (
        f'eval "$({program} --show-completion)"\n'
        f"COMP_WORDS=(taxonomist --home {trained.settings.home} models show '') COMP_CWORD=5\n"
        f"_taxonomist_completion {program}\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["v1"]
