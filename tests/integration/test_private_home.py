"""The modes of all files of a home, after real processes have worked in it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.services import Services
from tests.backend_process import TAXONOMIST, BackendProcess
from tests.small_world import PATHS, image_bytes
from tests.waiting import eventually

LOOKED = "looked at the modes of all files"


def open_files(home: Path) -> dict[str, str]:
    """Return by name the modes of the files and folders that others may use."""
    found = {}
    for path in [home, *home.rglob("*")]:
        try:
            mode = stat.S_IMODE(path.lstat().st_mode)
        except FileNotFoundError:  # it was temporary
            continue
        if mode & 0o077 and not path.is_symlink():
            found[path.name] = f"{mode:o}"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--no-worker")])
def test_files_of_an_old_home_are_closed_and_new_ones_are(trained: Services, arguments: tuple[str, ...]) -> None:
    home = trained.settings.home
    for path in [home, *home.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = os.umask(0o022)
    try:
        backend = BackendProcess(home, {"log_level": "DEBUG"}, arguments=arguments).start()
    finally:
        os.umask(before)
    try:
        eventually("the files are closed", lambda: not open_files(home))
        if arguments == ("serve",):
            eventually("the worker has begun", lambda: "is done" in backend.log.read_text())
        assert backend.log.read_text().count(LOOKED) == 1  # not by each process: a home may have millions of files
        body = {"action": "PROJECT_UPDATED", "project": {"id": 8, "label_config": "<View/>"}}
        assert httpx.post(f"{backend.url}/webhook", json=body).status_code == 201
        backend.command("models", "list", "--project", "7")
        assert open_files(home) == {}
    finally:
        backend.stop()
    assert open_files(home) == {}


@pytest.mark.slow
def test_a_worker_alone_closes_the_files_of_an_old_home(trained: Services) -> None:
    home = trained.settings.home
    for path in [home, *home.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    environment = {**BackendProcess(home).environment, "TAXONOMIST_LOG_LEVEL": "DEBUG"}
    worker = subprocess.Popen([TAXONOMIST, "worker"], env=environment, stderr=subprocess.PIPE, text=True, cwd=home)
    try:
        eventually("the files are closed", lambda: not open_files(home))
    finally:
        worker.terminate()
        said = worker.communicate(timeout=60)[1]
    assert said.count(LOOKED) == 1


@pytest.mark.slow
def test_a_command_makes_a_private_home(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        backend = BackendProcess(tmp_path / "parent" / "home", folder=tmp_path)
        rows = "file,level1,level2\n" + "".join(f"{number}.jpg,Cold,Blue\n" for number in range(3))
        (tmp_path / "list.csv").write_text(rows)
        for number in range(3):
            (tmp_path / f"{number}.jpg").write_bytes(image_bytes(PATHS[0], number))
        backend.command("import", str(tmp_path / "list.csv"), "--project", "colours")
    finally:
        os.umask(before)
    assert (tmp_path / "parent" / "home" / "projects" / "colours.json").exists()
    assert open_files(tmp_path / "parent" / "home") == {}
