"""The version of a home folder: written when it is made, migrated when it is older, refused when it is newer."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from taxonomist.storage.home import versions
from taxonomist.storage.home.migrations import STEPS
from taxonomist.storage.home.old_home import OldHome
from taxonomist.storage.home.version_file import VERSION, home_version
from taxonomist.storage.home.versions import open_home
from taxonomist.taxonomy.errors import ConfigError, DamagedError, StorageError


def make_old(home: Path) -> Path:
    """Make a home of version 1: a database and no number."""
    home.mkdir()
    with closing(sqlite3.connect(home / "journal.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE steps (name TEXT)")
    (home / "projects").mkdir()
    (home / "projects" / "4.json").write_text("{}")
    return home


def steps(home: Path, database: str = "journal.sqlite") -> list[str]:
    with closing(sqlite3.connect(home / database)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM steps")]


def note(old: OldHome) -> None:
    """A step that shows that it ran; slow enough for others to come in between."""
    time.sleep(0.2)
    with old.transaction("journal.sqlite") as connection:
        assert connection is not None
        connection.execute("INSERT INTO steps VALUES ('note')")


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "STEPS", {VERSION: [note]})


def test_a_new_home_has_todays_version(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    assert home_version(home) is None
    open_home(home)
    open_home(home)
    assert home_version(home) == VERSION
    assert json.loads((home / "home.json").read_text())["version"] == VERSION
    assert not list(home.glob("before-*"))


def test_a_folder_with_other_files_becomes_a_home(tmp_path: Path) -> None:
    (tmp_path / "taxonomist.toml").write_text("")
    open_home(tmp_path)
    assert home_version(tmp_path) == VERSION


def test_an_older_home_is_copied_and_migrated_once(tmp_path: Path, one_step: None) -> None:
    home = make_old(tmp_path / "home")
    assert home_version(home) == 1
    open_home(home)
    open_home(home)
    assert home_version(home) == VERSION
    assert steps(home) == ["note"]
    copies = home / f"before-version-{VERSION}"
    assert steps(copies) == []
    assert (copies / "projects" / "4.json").exists()


def test_a_killed_migration_is_finished_and_keeps_its_first_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_old(tmp_path / "home")

    def dies(_: OldHome) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(versions, "STEPS", {VERSION: [note, dies]})
    with pytest.raises(KeyboardInterrupt):
        open_home(home)
    assert home_version(home) == 1
    monkeypatch.setattr(versions, "STEPS", {VERSION: [note]})
    open_home(home)
    assert home_version(home) == VERSION
    assert steps(home) == ["note", "note"]
    assert steps(home / f"before-version-{VERSION}") == []


def test_a_step_that_fails_changes_nothing_in_its_database(tmp_path: Path) -> None:
    home = make_old(tmp_path / "home")

    def half() -> None:
        with OldHome(home, home / "copies").transaction("journal.sqlite") as connection:
            assert connection is not None
            connection.execute("INSERT INTO steps VALUES ('half')")
            connection.execute("INSERT INTO missing VALUES (1)")

    with pytest.raises(StorageError, match="no such table"):
        half()
    assert steps(home) == []
    with OldHome(home, home / "copies").transaction("catalog.sqlite") as connection:
        assert connection is None


def test_one_process_migrates_and_the_others_wait(tmp_path: Path, one_step: None) -> None:
    home = make_old(tmp_path / "home")
    processes = [multiprocessing.get_context("fork").Process(target=open_home, args=(home,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert steps(home) == ["note"]


def test_a_newer_home_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    open_home(tmp_path)
    (tmp_path / "home.json").write_text(f'{{"format": 1, "version": {VERSION + 1}}}')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DamagedError, match=rf"version {VERSION + 1}; this release reads versions up to {VERSION}"):
        open_home(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_number_is_not_taken_for_an_older_home(tmp_path: Path) -> None:
    make_old(tmp_path / "home")
    (tmp_path / "home" / "home.json").write_text("{")
    with pytest.raises(DamagedError, match=r"home\.json"):
        open_home(tmp_path / "home")


def test_a_worker_of_an_earlier_release_must_stop_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_WORKER_TIMEOUT_S", 0.1)
    home = make_old(tmp_path / "home")
    with FileLock(home / "worker.lock"), pytest.raises(ConfigError, match="worker of an earlier release"):
        open_home(home)
    assert home_version(home) == 1
    assert not (home / f"before-version-{VERSION}").exists()


def leave_file(old: OldHome) -> None:
    """A step with a working file, which an earlier attempt may have left."""
    file = old.working / "found.txt"
    with old.transaction("journal.sqlite") as connection:
        assert connection is not None
        if not file.exists():
            (found,) = connection.execute("SELECT count(*) FROM steps").fetchone()
            file.write_text(str(found))
        connection.execute("INSERT INTO steps VALUES (?)", (file.read_text(),))


def test_working_files_live_as_long_as_their_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_old(tmp_path / "home")
    (home / "models").mkdir()
    (home / "models" / "aliases.json").write_text("before")

    def dies(_: OldHome) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(versions, "STEPS", {VERSION: [leave_file, dies]})
    with pytest.raises(KeyboardInterrupt):
        open_home(home)
    monkeypatch.setattr(versions, "STEPS", {VERSION: [leave_file]})
    open_home(home)
    assert steps(home) == ["0", "0"]  # the second attempt has used the file of the first
    first = home / f"before-version-{VERSION}"
    assert not (first / "working").exists()
    assert (first / "models" / "aliases.json").read_text() == "before"

    (home / "home.json").unlink()  # a person went back to the earlier release
    (home / "models" / "aliases.json").write_text("in between")
    open_home(home)
    assert steps(home) == ["0", "0", "2"]
    second = home / f"before-version-{VERSION}-2"
    assert (steps(first), steps(second)) == ([], ["0", "0"])
    assert (second / "models" / "aliases.json").read_text() == "in between"
    assert (first / "models" / "aliases.json").read_text() == "before"
    assert not (second / "working").exists()


def test_there_are_steps_to_each_version() -> None:
    assert list(STEPS) == list(range(2, VERSION + 1))
