"""A damaged database is moved aside when the worker starts, and its content comes back from the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.backend.retraining.trained_labels import keep_parts
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.home.versions import open_home
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.split import Part


def remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def overwrite_middle(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + b"\xa5" * (len(data) // 3) + data[2 * len(data) // 3 :])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"not a database" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "overwritten": overwrite_middle,
    "empty": lambda path: path.write_bytes(b""),
    "gone": remove,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_labels_products_and_parts_come_back(world: Services, damage: str) -> None:
    other = Services(world.settings)  # another process, such as the server, that has the file open
    assert other.catalog.count("7") == 80
    Worker(world).pulse()
    documents = list(world.catalog.documents("7"))
    parts: dict[str, Part] = {
        document.id: "test" if number % 4 else "train" for number, document in enumerate(documents)
    }
    keep_parts(world, "7", parts)
    before = {d.id: (d.projects["7"].accepted, d.projects["7"].group, parts[d.id]) for d in documents}
    for process in (world, other):
        process.catalog.close()
    DAMAGES[damage](world.home / "catalog.sqlite")
    services = Services(world.settings)
    worker = Worker(services)
    worker._begin()
    worker.pulse()
    for found in (services, other):
        after = {
            d.id: (d.projects["7"].accepted, d.projects["7"].group, d.projects["7"].part)
            for d in found.catalog.documents("7")
        }
        assert after == before
    aside = list(world.home.glob("catalog.sqlite.damaged-*"))
    assert len(aside) == (damage not in {"empty", "gone"})
    worker._begin()
    assert services.journal.dirty_projects() == []  # a sound catalogue is not made anew


@pytest.mark.parametrize("damage", ["no database", "overwritten"])
def test_jobs_begin_anew(world: Services, damage: str) -> None:
    world.jobs.enqueue(JobKind.EMBED, "7")
    world.jobs._database.close()
    DAMAGES[damage](world.home / "jobs.sqlite")
    services = Services(world.settings)
    Worker(services)._begin()
    assert services.jobs.enqueue(JobKind.TRAIN, "7").kind is JobKind.TRAIN
    assert len(list(world.home.glob("jobs.sqlite.damaged-*"))) == 1


def test_a_home_whose_path_is_too_long_is_refused(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["x" * 100] * 5)
    with pytest.raises(ConfigError, match=r"has \d+ bytes; SQLite allows 480.*Set TAXONOMIST_HOME"):
        open_home(home)
    assert not home.exists()
