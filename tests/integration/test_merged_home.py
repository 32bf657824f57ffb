"""A home of the first release in which several images share an id: each gets its own, with its own labels.

`tests/data/make_merged_home.py` describes the home, and made it with the code of 0.1.0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taxonomist
from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.labelling.decisions import decide_after_migration
from taxonomist.backend.pretraining.dataset import read_data
from taxonomist.backend.pretraining.prepared_images import prepared_image_store
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog import ImageDocument, ProjectLabels, SqliteCatalog
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.home import image_ids
from taxonomist.storage.home.former_image_ids import former_image_id
from taxonomist.storage.home.old_home import SharedStores
from taxonomist.storage.home.version_file import home_version
from taxonomist.storage.home.versions import open_home
from tests.homes import DATA
from tests.present import present

PATHS = [["Warm", "Red"], ["Warm", "Yellow"], ["Cold", "Blue"], ["Cold", "Green"]]
ADDRESSES = [
    "azure-blob://photos/chair #1.jpg",
    "azure-blob://photos/chair #2.jpg",
    "azure-blob://photos/chair #3.jpg",
    "azure-blob://photos/table.jpg",
    "azure-blob://photos/table.jpg?x",
    "/data/local-files/?d=set/lamp#1.jpg",
    "/data/local-files/?d=set/lamp#2.jpg",
    "https://h/image?id=1&signature=abc",
    "https://h/image?id=2&signature=abc",
    "azure-blob://photos/a%2520b.jpg",
    "azure-blob://photos/a%20b.jpg",
    "https://acc.blob.core.windows.net/photos/sofa.jpg?sv=2021-01-01&sig=abc",
    "/data/upload/1/0a1b2c3d-bed.jpg",
    "https://other.blob.core.windows.net/photos/table.jpg",
]
SURE = [ADDRESSES[9], *ADDRESSES[11:13]]  # no other image had, or has now, the id that was theirs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with tarfile.open(DATA / "home-0.1.0-merged.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "home"


def former_documents(home: Path) -> dict[str, ImageDocument]:
    with SqliteCatalog(home / "catalog.sqlite") as catalog:
        return {document.id: document for document in catalog.documents()}


def labels(services: Services) -> dict[str, list[list[str]]]:
    return {
        document.projects["7"].uri: document.projects["7"].accepted["colour"]
        for document in services.catalog.documents("7")
    }


WANTED = {uri: [PATHS[number % 4]] for number, uri in enumerate(ADDRESSES)}


def test_each_image_has_an_id_and_the_labels_of_its_own_annotations(home: Path) -> None:
    before = former_documents(home)
    assert {former_image_id(uri) for uri in ADDRESSES} == set(before)
    assert len(before) == 8
    with taxonomist.open_home(home) as opened:
        found = {label.uri: (label.image_id, list(label.path)) for label in opened.project("7").labels()}
    assert found == {uri: (image_id(uri), PATHS[number % 4]) for number, uri in enumerate(ADDRESSES)}
    for document in former_documents(home).values():
        former = before[former_image_id(present(document.uri_orig))]
        entry, old = document.projects["7"], former.projects["7"]
        assert (entry.group, entry.part, document.is_blurred) == (old.group, old.part, former.is_blurred)
        assert len(document.labels_with_taxonomy) == 2
        # For images that shared an id it is not known whose file was read.
        assert document.file_hash == (former.file_hash if entry.uri in SURE else None)


def test_arrays_follow_their_images(home: Path) -> None:
    before = former_documents(home)
    rows = {id: row for row, id in enumerate(sorted(before))}
    services = Services(Settings(home=home))
    embeddings, prepared = services.embeddings("v1"), prepared_image_store(services, 32)
    for store in (embeddings, prepared):
        found, values = store.get([image_id(uri) for uri in ADDRESSES])
        known = {uri: row.flat[0] for uri, row, is_found in zip(ADDRESSES, values, found, strict=True) if is_found}
        assert known == {uri: rows[former_image_id(uri)] for uri in SURE}
    run = present(read_data(home))
    assert len(run.ids) == len(prepared) == 8
    assert prepared.snapshot()[0] == run.ids
    np.testing.assert_array_equal(prepared.snapshot()[1][:, 0, 0, 0], np.arange(8))


def test_the_split_is_reported(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        services = Services(Settings(home=home))
        services.open_existing_home()
    assert "10 images had one id with others" in caplog.text
    assert "chair #1.jpg, azure-blob://photos/chair #2.jpg" in caplog.text
    (check,) = [check for check in run_checks(services) if check.name == "split images"]
    assert (check.status, check.detail.split()[0]) == ("warn", "10")
    assert "split-images.csv" in check.fix


def test_the_former_databases_are_kept(home: Path) -> None:
    before = former_documents(home)
    open_home(home)
    assert former_documents(home / "before-version-2") == before
    with contextlib.closing(sqlite3.connect(home / "before-version-2" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(DISTINCT image_id) FROM annotations").fetchone() == (8,)


@pytest.mark.parametrize("step", ["_move_rows", "move_documents", "_rename_arrays", "_report"])
@pytest.mark.parametrize("after", [False, True])
def test_a_migration_that_is_killed_is_finished(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    done: Callable[..., Any] = getattr(image_ids, step)

    def dies(*arguments: Any) -> None:
        if after:
            done(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(image_ids, step, dies)
        with pytest.raises(KeyboardInterrupt):
            open_home(home)
    assert home_version(home) == 1
    services = Services(Settings(home=home))
    assert services.open_existing_home()
    decide_after_migration(services)
    assert labels(services) == WANTED
    assert {document.id for document in services.catalog.documents()} == {image_id(uri) for uri in ADDRESSES}


def test_a_second_migration_changes_nothing(home: Path) -> None:
    services = Services(Settings(home=home))
    services.open_existing_home()
    decide_after_migration(services)
    before = {id: document.model_copy(update={"etag": None}) for id, document in former_documents(home).items()}
    (home / "home.json").unlink()
    (home / "before-version-2").rename(home / "earlier")
    open_home(home)
    assert {id: document.model_copy(update={"etag": None}) for id, document in former_documents(home).items()} == before
    assert not (home / "before-version-2" / "split-images.csv").exists()
    assert Services(Settings(home=home)).journal.dirty_projects() == []


def test_a_shared_catalogue_keeps_the_former_documents(home: Path, tmp_path: Path) -> None:
    """As Cosmos DB does, in which nothing is deleted."""

    class Shared(SqliteCatalog):
        def delete(self, ids: object) -> None:
            pass

    (home / "catalog.sqlite").rename(tmp_path / "shared.sqlite")
    names: list[str] = []
    with Shared(tmp_path / "shared.sqlite") as catalog:
        former = {document.id for document in catalog.documents()}
        open_home(home, SharedStores(lambda: catalog, names.extend))
        kept = {document.id: document for document in catalog.documents()}
        assert former | {image_id(uri) for uri in ADDRESSES} == set(kept)
        gone = former - {image_id(uri) for uri in ADDRESSES}
        for id in gone:
            assert (kept[id].projects, kept[id].uri_orig) == ({}, None)
            assert json.loads(kept[id].model_dump_json())["moved_to"]
        assert set(names) == former - {image_id(ADDRESSES[12])}
    assert len((home / "before-version-2" / "documents.jsonl").read_text().splitlines()) == 7


def go_back(home: Path) -> None:
    """Go back to the earlier release, as docs/how-to/update-the-home.md says."""
    (home / "home.json").unlink(missing_ok=True)
    for file in [*home.glob("*.sqlite-wal"), *home.glob("*.sqlite-shm")]:
        file.unlink()
    shutil.copytree(home / "before-version-2", home, dirs_exist_ok=True)


def annotate_in_the_first_release(home: Path, number: int, uri: str, path: list[str]) -> None:
    """Store a task with the annotations of two people as release 0.1.0 does, or what they correct in it later."""
    time, id = f"2026-06-01T10:{number:02d}:00.000000+00:00", former_image_id(uri)
    result = [{"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}]
    with contextlib.closing(sqlite3.connect(home / "journal.sqlite")) as journal, journal:
        journal.execute(
            "INSERT OR REPLACE INTO tasks VALUES ('7', ?, ?, ?, ?, ?, '{}')", (str(number), id, uri, time, time)
        )
        for person in (1, 2):
            data = {"id": 10 * number + person, "completed_by": person, "created_at": time, "updated_at": time}
            journal.execute(
                "INSERT OR REPLACE INTO annotations VALUES ('7', ?, ?, ?, ?, ?, ?, ?)",
                (str(data["id"]), str(number), id, uri, time, time, json.dumps(data | {"result": result})),
            )
    with SqliteCatalog(home / "catalog.sqlite") as catalog:
        entry = ProjectLabels(uri=uri, task_id=str(number), accepted={"colour": [path]}, group="made in between")
        catalog.put(ImageDocument(id=id, uri_orig=uri, projects={"7": entry}))


@pytest.mark.parametrize("killed", [False, True])
def test_a_home_that_went_back_is_migrated_anew_with_the_labels_made_in_between(
    home: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    if killed:
        with monkeypatch.context() as patched:
            patched.setattr(image_ids, "_rename_arrays", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                open_home(home)
    else:
        open_home(home)
    copies = home / "before-version-2"
    first = {file: file.read_bytes() for file in copies.rglob("*") if file.is_file()}
    go_back(home)
    assert home_version(home) == 1
    stools = [f"azure-blob://photos/stool #{number}.jpg" for number in (1, 2)]
    annotate_in_the_first_release(home, 20, stools[0], PATHS[0])
    annotate_in_the_first_release(home, 21, stools[1], PATHS[2])  # in its home both have the label of this one
    annotate_in_the_first_release(home, 3, ADDRESSES[3], PATHS[1])  # a correction

    services = Services(Settings(home=home))
    assert services.open_existing_home()
    decide_after_migration(services)
    assert labels(services) == WANTED | {stools[0]: [PATHS[0]], stools[1]: [PATHS[2]], ADDRESSES[3]: [PATHS[1]]}
    assert {document.id for document in services.catalog.documents()} == {
        image_id(uri) for uri in [*ADDRESSES, *stools]
    }
    assert {file: file.read_bytes() for file in first} == first
    with contextlib.closing(sqlite3.connect(home / "before-version-2-2" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(DISTINCT image_id) FROM annotations").fetchone() == (9,)
    (check,) = [check for check in run_checks(services) if "stool" in check.detail]
    assert check.name == "split images"
