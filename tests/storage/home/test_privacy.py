"""Who may read a home."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxonomist.storage.home.privacy import make_private, open_because, repair_modes


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as earlier releases made it."""
    home = tmp_path / "home"
    (home / "projects").mkdir(parents=True, mode=0o755)
    for name in ("journal.sqlite", "journal.sqlite-wal", "projects/4.json", "worker.lock", ".tmp-x"):
        (home / name).write_bytes(b"x")
    (home / "journal.sqlite").chmod(0o444)
    return home


def modes(home: Path) -> set[str]:
    return {f"{stat.S_IMODE(path.stat().st_mode):o}" for path in [home, *home.rglob("*")]}


def test_an_existing_home_is_closed(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "755" in (open_because(home) or "")
    make_private(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert repair_modes(home) == 6
    assert modes(home) == {"700", "600", "400"}
    assert repair_modes(home) == 0
    (home / "new").write_bytes(b"x")
    (home / "models").mkdir()
    assert modes(home) == {"700", "600", "400"}
    assert open_because(home) is None
    assert caplog.messages == []


def test_a_new_home_is_closed_from_its_first_moment(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "home")
    (tmp_path / "a" / "home").mkdir(parents=True)
    assert modes(tmp_path / "a") == {"700"}


def test_a_link_out_of_the_home_is_not_followed(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_bytes(b"x")
    (home / "images").symlink_to(outside)
    (home / "link").symlink_to(outside / "file")
    (home / "broken").symlink_to(tmp_path / "nowhere")
    repair_modes(home)
    assert modes(outside) == {"755", "644"}


@pytest.mark.parametrize("sign", ["another owner", "setgid", "a file of another user"])
def test_a_shared_home_stays_as_it_is(
    home: Path, sign: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = modes(home)
    if sign == "setgid":
        home.chmod(0o2775)
        before = modes(home)
    elif sign == "another owner":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(home / "worker.lock", 12345, 12345)
    make_private(home)
    assert repair_modes(home) == 0
    assert modes(home) == before
    (home / "new").write_bytes(b"x")
    assert stat.S_IMODE((home / "new").stat().st_mode) == 0o644  # the others may go on reading
    assert "other users may be able to read the home folder" in caplog.text
    assert open_because(home)


def test_a_home_that_cannot_be_closed_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as CIFS and vfat do
    make_private(home)
    assert f"{home}: its file system keeps the mode 0755" in caplog.text

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    make_private(home)
    assert "its mode cannot be changed (Operation not permitted)" in caplog.text
    assert repair_modes(home) == 0
    assert "and 6 more" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_works_in_a_home_that_is_open_to_it() -> None:
    folder = Path(tempfile.mkdtemp())  # which pytest's own folders do not let another user reach
    try:
        folder.chmod(0o777)
        child = os.fork()
        if child == 0:
            os.setuid(12345)
            make_private(folder)
            repair_modes(folder)
            (folder / "journal.sqlite").write_bytes(b"x")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        make_private(folder)  # root, or the owner of the volume, does not close it afterwards
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    finally:
        shutil.rmtree(folder)


def test_a_home_that_is_not_there_yet_has_nothing_to_repair(tmp_path: Path) -> None:
    assert repair_modes(tmp_path / "home") == 0


def test_a_folder_that_is_no_home_stays_as_it_is(tmp_path: Path) -> None:
    """TAXONOMIST_HOME may name the wrong folder, such as that of a website."""
    folder = tmp_path / "www"
    (folder / "images").mkdir(parents=True, mode=0o755)
    (folder / "images" / "a.jpg").write_bytes(b"x")
    before = modes(folder)
    make_private(folder)
    assert repair_modes(folder) == 0
    assert modes(folder) == before
    assert "wrong folder" in (open_because(folder) or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another group")
def test_a_home_that_was_given_to_a_group_stays_as_it_is(home: Path) -> None:
    os.chown(home, -1, os.getegid() + 1)
    home.chmod(0o770)
    make_private(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o770
    assert "given to the group" in (open_because(home) or "")
