"""A damaged database is moved aside when the worker starts, and its content comes back from the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.decisions import update_labels
from taxonomist.backend.retraining.trained_labels import keep_parts
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_use import working_on
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.catalog import ProjectLabels, SqliteCatalog, image_id
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.home.versions import open_home
from taxonomist.storage.journal import TaskDeleted, TaskSaved
from taxonomist.storage.kept.copies import KeptFile
from taxonomist.storage.set_aside import ItemKind
from taxonomist.taxonomy.errors import ConfigError, DamagedError, StorageError
from taxonomist.training.heads.data.trained_on import trained_on
from taxonomist.training.split import Part
from tests.backend.cli.conftest import Run
from tests.backend_process import BackendProcess
from tests.small_world import CONFIG
from tests.waiting import eventually


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
    "none": lambda path: None,
}


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage != "none"])
def test_labels_products_and_parts_come_back(world: Services, damage: str) -> None:
    other = Services(world.settings)  # another process, such as the server, that has the file open
    assert other.catalog.count("7") == 80
    Worker(world).pulse()
    documents = list(world.catalog.documents("7"))
    parts: dict[str, Part] = {
        document.id: "test" if number % 4 else "train" for number, document in enumerate(documents)
    }
    keep_parts(world, "7", parts, known={})
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


@pytest.fixture
def trained(world: Services) -> Services:
    """The world after a training; embeddings, parts and hashes are those that it made."""
    Worker(world).pulse()
    train(world, "7", lambda step, share: None)
    return world


Known = dict[str, tuple[object, ...]]


def documents_of(services: Services) -> dict[str, ImageDocument]:
    return {document.id: document for document in services.catalog.documents("7")}


def known_of(services: Services) -> Known:
    """Return what the catalogue knows of each image, but for the times."""
    return {
        document.id: (
            *(document.file_hash, document.resolution_width, document.resolution_height, document.uri_orig),
            document.projects["7"].model_copy(update={"updated_at": None, "trained": {}}),
            [(entry.annotator_id, entry.taxonomy) for entry in document.labels_with_taxonomy],
        )
        for document in services.catalog.documents("7")
    }


def repaired(services: Services, damage: str, *, jobs: bool = True) -> Services:
    """Damage the catalogue, start the worker, and let it work. Without `jobs` no training fixes parts again."""
    services.catalog.close()
    DAMAGES[damage](services.home / "catalog.sqlite")
    services = Services(services.settings)
    worker = Worker(services)
    worker._begin()
    worker.pulse()
    while jobs and worker._jobs.run_next():
        pass
    return services


def test_everything_comes_back_after_a_training(trained: Services) -> None:
    before = known_of(trained)
    parts = {image: document.projects["7"].part for image, document in documents_of(trained).items()}
    assert set(parts.values()) == {"test", "train"}
    assert all(values[0] for values in before.values())
    tested = {image for image, part in parts.items() if part == "test"}
    services = repaired(trained, "overwritten")
    assert known_of(services) == before
    train(services, "7", lambda step, share: None, force=True)
    assert known_of(services) == before
    newest = services.registry.versions("project-7")[-1]
    assert trained_on(newest).ids.isdisjoint(tested)


def test_parts_of_an_earlier_release_come_back_from_the_versions(trained: Services) -> None:
    before = known_of(trained)
    with sqlite3.connect(trained.home / "journal.sqlite") as connection:
        for table in ("former_parts", "image_files"):
            connection.execute(f"DELETE FROM {table}")
    connection.close()
    services = repaired(trained, "gone", jobs=False)
    after = known_of(services)
    assert {image: values[4] for image, values in after.items()} == {
        image: values[4] for image, values in before.items()
    }


def test_hashes_and_parts_of_an_earlier_release_are_kept_at_the_start(trained: Services) -> None:
    before = known_of(trained)
    with sqlite3.connect(trained.home / "journal.sqlite") as connection:
        for table in ("former_parts", "image_files"):
            connection.execute(f"DELETE FROM {table}")
    connection.close()
    Worker(Services(trained.settings))._begin()
    for version in (trained.home / "models" / "project-7").glob("*/data.json"):
        version.unlink()
    assert known_of(repaired(trained, "gone")) == before


def test_images_that_were_suggested_meanwhile_are_decided_all_the_same(trained: Services) -> None:
    before = known_of(trained)
    trained.catalog.close()
    remove(trained.home / "catalog.sqlite")
    server = Services(trained.settings)
    image, values = next(iter(before.items()))
    uri = str(values[3])
    server.catalog.update(
        image, lambda document: document.in_project("7", ProjectLabels(uri=uri)).model_copy(update={"uri_orig": uri})
    )
    server.catalog.close()
    assert known_of(repaired(trained, "none")) == before


def test_what_is_forgotten_leaves_no_copy(trained: Services) -> None:
    image = next(iter(known_of(trained)))
    assert trained.journal.kept.files([image])
    trained.journal.withdrawal.forget_images([image], {})
    assert not trained.journal.kept.files([image])


def lose_catalogue(services: Services) -> Services:
    services.catalog.close()
    remove(services.home / "catalog.sqlite")
    return Services(services.settings)


def labels_of(services: Services) -> dict[str, dict[str, list[list[str]]]]:
    return {document.id: document.projects["7"].accepted for document in services.catalog.documents("7")}


def test_a_lost_catalogue_that_has_new_images_already_gets_the_others_back(trained: Services) -> None:
    before = labels_of(trained)
    services = lose_catalogue(trained)
    services.journal.kept.keep_files({image_id("/data/upload/7/new.jpg"): KeptFile("0", 1, 1)})
    predicted, decided = sorted(before)[:2]
    services.catalog.update(predicted, lambda d: d.in_project("7", ProjectLabels(uri="u")))  # as a prediction writes it
    services.journal.record([TaskSaved("7", "7.1795531934", "1", "/data/upload/7/new.jpg", datetime.now(UTC))])
    services.journal.fold()
    update_labels(services, "7", [decided])
    worker = Worker(services)
    worker.pulse()
    assert services.catalog.count("7") == 3
    worker._begin()
    assert services.journal.dirty("7").images == before.keys() - {decided}
    worker.pulse()
    assert labels_of(services) == {**before, image_id("/data/upload/7/new.jpg"): {}}


def test_a_sound_catalogue_is_only_counted(trained: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of it would cost Azure's request units for each document at each start."""
    world = trained
    source, now = "7.1795531934", datetime.now(UTC)
    deleted = "/data/upload/7/deleted.jpg"  # project 4 still has it
    world.projects.update("4", label_config=CONFIG)
    world.journal.record([TaskSaved("4", "4.1795531934", "1", deleted, now)])
    world.journal.record([TaskSaved("7", source, "1", deleted, now), TaskDeleted("7", source, "1")])
    world.journal.kept.keep_files({image_id(deleted): KeptFile("0", 1, 1)})  # it was read
    world.catalog.update("p", lambda document: document.in_project("7", ProjectLabels(uri="/p.jpg")))  # predicted only
    Worker(world).pulse()
    for uri in ("/data/upload/7/waits.jpg", "/data/upload/7/odd.jpg"):
        world.journal.record([TaskSaved("7", source, uri[-8:], uri, now)])
    world.journal.fold()
    world.journal.done("7", [image_id("/data/upload/7/odd.jpg")], world.journal.position())
    world.journal.set_aside.add(ItemKind.IMAGE, "7", image_id("/data/upload/7/odd.jpg"), "odd")
    world.catalog.leave_project("7", ["p"])
    listed: list[str | None] = []

    def documents(_: SqliteCatalog, project: str | None = None, **__: object) -> Iterator[ImageDocument]:
        listed.append(project)
        return iter(())

    monkeypatch.setattr(SqliteCatalog, "documents", documents)
    Worker(world)._begin()
    assert listed == []


def test_a_catalogue_that_cannot_be_read_for_a_project_holds_no_other(
    world: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.journal.record([TaskSaved("4", "4.1795531934", "1", "/data/upload/4/a.jpg", datetime.now(UTC))])
    world.projects.update("4", label_config=CONFIG)
    Worker(world).pulse()
    services = lose_catalogue(world)
    count = SqliteCatalog.count

    def fails(catalog: SqliteCatalog, project: str | None = None, **more: Any) -> int:
        if project == "4":
            raise DamagedError("odd")
        return count(catalog, project, **more)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteCatalog, "count", fails)
        Worker(services)._begin()
    assert len(services.journal.dirty("7").images) == 80
    assert [(item.project, item.key) for item in services.journal.set_aside.items()] == [("4", "repairs")]


@pytest.mark.parametrize("damage", ["no database", "overwritten"])
def test_jobs_begin_anew(world: Services, damage: str) -> None:
    world.jobs.enqueue(JobKind.EMBED, "7")
    world.jobs._database.close()
    DAMAGES[damage](world.home / "jobs.sqlite")
    services = Services(world.settings)
    Worker(services)._begin()
    assert services.jobs.enqueue(JobKind.TRAIN, "7").kind is JobKind.TRAIN
    assert len(list(world.home.glob("jobs.sqlite.damaged-*"))) == 1


LINKED = "a link to a long path"


@pytest.mark.parametrize("command", ["serve", "worker", "retry"])
@pytest.mark.parametrize("kind", ["long", LINKED])
def test_a_home_whose_path_is_too_long_is_refused(tmp_path: Path, run: Run, command: str, kind: str) -> None:
    home = tmp_path.joinpath(*["x" * 100] * 5)
    if kind == LINKED:
        home.mkdir(parents=True)
        home = tmp_path / "link"
        home.symlink_to(tmp_path.joinpath(*["x" * 100] * 5))
    with pytest.raises(ConfigError, match=r"has \d+ bytes; SQLite allows 480.*Set TAXONOMIST_HOME"):
        open_home(home)
    code, _, err = run("--home", home, command)
    assert (code, "SQLite allows 480" in err) == (2, True)
    assert kind == LINKED or not home.exists()


def test_the_longest_home_takes_the_longest_project(tmp_path: Path) -> None:
    home = tmp_path
    while (left := 480 - len(str(home)) - 1) > 0:
        home /= "x" * min(100, left)
    services = Services(Settings(home=home))
    project = "p" * 100
    services.projects.update(project, label_config=CONFIG)
    with working_on(services.home, project):
        services.jobs.enqueue(JobKind.EMBED, project)
        assert services.catalog.count(project) == services.suggestions.count(project) == 0
        services.journal.fold()


def damage_in_use(path: Path, damage: str) -> None:
    """Damage a database that other processes have open; all of it is in the file, not in the write-ahead log."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    DAMAGES[damage](path)


@pytest.mark.parametrize("damage", ["no database", "zeros", "gone"])
def test_a_worker_ends_where_a_database_in_use_is_damaged(trained: Services, damage: str) -> None:
    before = known_of(trained)
    worker = Worker(trained)
    worker._begin()
    worker.pulse()
    assert worker._damage() is None
    damage_in_use(trained.home / "catalog.sqlite", damage)
    with suppress(StorageError):
        Services(trained.settings).catalog.count("7")  # makes a new file where it is gone
    found = worker._damage()
    assert found is not None
    assert "The next start of the worker puts it right." in str(found)
    after = Worker(Services(trained.settings))
    after._begin()
    after.pulse()
    assert after._damage() is None
    assert known_of(after.services) == before


@pytest.mark.slow
def test_a_database_that_is_damaged_while_all_run_is_made_anew(trained: Services) -> None:
    """Server and supervisor go on; the worker is started again by its supervisor."""
    before = known_of(trained)
    with BackendProcess(trained.home) as backend:
        for name, damage in (("catalog.sqlite", "no database"), ("jobs.sqlite", "zeros"), ("catalog.sqlite", "gone")):
            eventually("a worker", lambda: (heartbeat.age(trained.home) or 99) < 2, timeout=60)
            trained.catalog.close()
            damage_in_use(trained.home / name, damage)

            def is_repaired() -> bool:
                with suppress(StorageError):
                    fresh = Services(trained.settings)  # a command, which finds the damage
                    return known_of(fresh) == before and fresh.jobs.latest("7") is not None
                return False

            eventually(f"{name} is repaired\n{backend.said()}", is_repaired, timeout=60, every=0.5)
        assert backend.process is not None
        assert backend.process.poll() is None
