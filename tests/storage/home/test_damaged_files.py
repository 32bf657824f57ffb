"""A damaged SQLite file is moved aside; one that only cannot be read now stays where it is."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taxonomist.storage.home.damaged_files import move_aside_if_damaged
from taxonomist.taxonomy.errors import StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
    return path


def rows(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT x FROM t").fetchall()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait 0.1 s for a lock, not 30 s."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout=0.1: connect(path, timeout=min(timeout, 0.1)))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_locked_file_is_sound(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("PRAGMA locking_mode = exclusive")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO t VALUES (2)")
        with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.OperationalError):
            connection.execute("PRAGMA quick_check(1)").fetchone()
        assert move_aside_if_damaged(path) is None
        other.commit()
    assert rows(path) == [(1,), (2,)]


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_BUSY_RECOVERY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY_RECOVERY,
        None,
    ],
)
def test_an_error_that_passes_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    def fail(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("away")
        if code is not None:
            error.sqlite_errorcode = code
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", fail)
        assert move_aside_if_damaged(path) is None
    assert rows(path) == [(1,)]


def test_a_folder_in_its_place_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").mkdir()
    assert move_aside_if_damaged(tmp_path / "a.sqlite") is None
    assert (tmp_path / "a.sqlite").is_dir()


def test_a_damaged_file_goes_aside_and_the_log_says_where(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"no database " * 1000)
    with caplog.at_level(logging.ERROR):
        aside = move_aside_if_damaged(path)
    assert aside is not None
    assert aside.name.startswith("a.sqlite.damaged-")
    assert aside.read_bytes().startswith(b"no database")
    assert not path.exists()
    assert f"{path} is damaged; it is {aside} now" in caplog.text
    assert move_aside_if_damaged(path) is None


def test_a_file_that_cannot_be_moved_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Path:
        raise PermissionError(1, "Operation not permitted")

    path.write_bytes(b"no database " * 1000)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError):
        move_aside_if_damaged(path)
