"""Commands on homes of other releases."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

import taxonomist
from taxonomist.backend.cli import main
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.storage.home.version_file import home_version
from taxonomist.taxonomy.errors import DamagedError
from tests.backend.cli.conftest import Run
from tests.homes import DATA


def test_a_home_of_a_newer_release_is_refused_by_commands_server_and_api(run: Run, services: Services) -> None:
    home = services.home
    (home / "home.json").write_text('{"format": 1, "version": 99}', encoding="utf-8")
    before = sorted(path.name for path in home.iterdir())
    for command in ("models list", "worker", "serve", "doctor"):
        code, _, errors = run(*command.split())
        assert code == 8
        assert "has version 99; this release reads versions up to" in " ".join(errors.split())
        assert "Install the release" in errors
    with pytest.raises(DamagedError, match="version 99"):
        create_app(services.settings)
    with pytest.raises(DamagedError, match="version 99"):
        taxonomist.open_home(home)
    assert sorted(path.name for path in home.iterdir()) == before


def test_an_older_home_is_migrated_by_the_first_command_and_its_labels_are_decided(
    run: Run, services: Services, tmp_path: Path
) -> None:
    home = services.settings.home
    shutil.rmtree(home, ignore_errors=True)
    with tarfile.open(DATA / "home-0.1.0-merged.tar.gz") as archive:
        archive.extractall(tmp_path / "archive", filter="data")
    shutil.copytree(tmp_path / "archive" / "home", home)
    assert home_version(home) == 1
    run("models", "list", "--project", "7")
    assert home_version(home) == 2
    assert Services(services.settings).catalog.count("7", labelled=True) == 14
    assert Services(services.settings).journal.dirty_projects() == []


def test_a_command_that_only_asks_makes_no_home(run: Run, services: Services) -> None:
    shutil.rmtree(services.settings.home, ignore_errors=True)
    run("--version")
    assert not services.settings.home.exists()


@pytest.mark.parametrize("command", [["serve"], ["retry"]], ids=lambda command: str(command[0]))
def test_a_home_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["taxonomist", "--home", str(tmp_path / "file" / "home"), *command])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 8
    assert capsys.readouterr().err.startswith(f"error: Cannot use {tmp_path / 'file'}")
