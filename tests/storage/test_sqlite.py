import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.errors import DamagedError, StorageError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "deep" / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER)")
    yield database
    database.close()


def test_every_commit_waits_for_the_disk(database: Database) -> None:
    with database.write() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_the_write_ahead_log_is_written_back_often(database: Database) -> None:
    with database.write() as connection:
        connection.execute("CREATE TABLE texts (text TEXT)")
    for number in range(100):
        with database.write() as connection:
            connection.execute("INSERT INTO texts VALUES (?)", (str(number) * 20_000,))
    assert database.path.with_name("a.sqlite-wal").stat().st_size < 1_500_000


def test_what_raises_is_undone(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO a VALUES (1)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    with database.write() as connection:
        connection.execute("INSERT INTO a VALUES (2)")


def test_rows_are_written_in_short_transactions(database: Database) -> None:
    rows: list[tuple[object]] = [(number,) for number in range(1200)]
    database.write_rows("INSERT INTO a VALUES (?)", rows)
    with pytest.raises(StorageError):
        database.write_rows("INSERT INTO a VALUES (?)", [*rows[:700], (object(),)])
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone()[0] == 1200 + 500


def test_a_reader_sees_one_state(database: Database) -> None:
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM a").fetchone()[0] == 0
        with database.write() as writer:
            writer.execute("INSERT INTO a VALUES (1)")
        assert reader.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM a").fetchone()[0] == 1


def test_a_writer_waits_for_another_process(database: Database) -> None:
    with database.read():
        pass
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    written = threading.Event()

    def write() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO a VALUES (1)")
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not written.wait(0.2)
    other.execute("ROLLBACK")
    thread.join()
    other.close()
    assert written.is_set()


@pytest.mark.parametrize("place", ["file/a.sqlite", "folder"])
def test_places_where_no_file_can_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    database = Database(tmp_path / place, "SELECT 1")
    with pytest.raises(StorageError, match="Cannot"), database.read():
        pass


def test_a_file_without_a_number_has_format_1_and_gets_it(tmp_path: Path) -> None:
    early = sqlite3.connect(tmp_path / "a.sqlite")
    early.execute("CREATE TABLE a (n INTEGER)")
    early.execute("INSERT INTO a VALUES (7)")
    early.commit()
    early.close()
    database = Database(tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER)")
    with database.read() as connection:
        assert connection.execute("SELECT n FROM a").fetchone()[0] == 7
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    database.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    newer = Database(tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER)", version=2)
    with newer.read():
        pass
    newer.close()
    database = Database(tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER)")
    with (
        pytest.raises(DamagedError, match=r"a\.sqlite has format 2; this release reads formats up to 1\. Install"),
        database.write(),
    ):
        pass


def holds(database: Database, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in database.path.parent.glob(f"{database.path.name}*"))


def test_what_was_deleted_or_replaced_is_gone_from_the_files(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER PRIMARY KEY, text TEXT)")
    long = "long-secret " * 2000  # several pages
    with database.write() as connection:
        connection.executemany("INSERT INTO a VALUES (?, ?)", [(1, "first-secret"), (2, long), (3, "stays")])
    with database.write() as connection:
        connection.execute("UPDATE a SET text = 'other' WHERE n = 1")
        connection.execute("DELETE FROM a WHERE n = 2")
    assert holds(database, b"-secret")  # in the log
    database.erase_deleted()
    assert not holds(database, b"-secret")
    assert holds(database, b"stays")
    database.close()


def test_what_an_earlier_release_deleted_is_gone_once_the_file_is_rebuilt(tmp_path: Path) -> None:
    path, schema = tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS a (n INTEGER PRIMARY KEY, text TEXT)"
    with sqlite3.connect(path) as earlier:
        earlier.execute("PRAGMA secure_delete=OFF")
        earlier.execute(schema)
        earlier.executemany("INSERT INTO a VALUES (?, ?)", [(1, "old-secret"), (2, "stays")])
        earlier.commit()
        earlier.execute("DELETE FROM a WHERE n = 1")
    earlier.close()
    database = Database(path, schema)
    database.erase_deleted()
    assert holds(database, b"old-secret")
    database.erase_deleted(rebuild=True)
    assert not holds(database, b"old-secret")
    with database.read() as connection:
        assert connection.execute("SELECT text FROM a").fetchone()[0] == "stays"
    database.close()


def test_a_reader_does_not_hold_up_the_erasing(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM a").fetchone()[0] == 1
        database.erase_deleted()  # the log is cut by the next call
    with database.write() as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000


def test_a_file_that_was_moved_aside_is_left_for_the_new_one(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    database.path.rename(database.path.with_name("damaged"))
    for ending in ("-wal", "-shm"):
        database.path.with_name(f"a.sqlite{ending}").unlink()
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    other = Database(database.path, "CREATE TABLE IF NOT EXISTS a (n INTEGER)")
    with database.write() as connection:
        connection.execute("INSERT INTO a VALUES (2)")
    with other.read() as connection:
        assert [row["n"] for row in connection.execute("SELECT n FROM a")] == [2]
    other.close()
