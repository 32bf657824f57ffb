"""The step of a migration that gives images the ids of `storage.addresses`, everywhere where their former ids stand."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from taxonomist.storage.arrays.append_only_store import rename_rows
from taxonomist.storage.catalog import Catalog, SqliteCatalog
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.home.image_documents import move_documents
from taxonomist.storage.home.image_moves import ImageMoves, find_moves, read_moves, write_split_images
from taxonomist.storage.home.old_home import OldHome

__all__ = ["give_new_image_ids"]

log = logging.getLogger(__name__)

_SHOWN = 10
_RUN_FILES = ("images.json", "pictures.json")


def give_new_image_ids(home: OldHome) -> None:
    """Move every image to its new id: journal, documents, embeddings, prepared images and the run of a pre-training.

    Images that shared an id get one each, with the labels of their own annotations: they are to be decided again, and
    their files are read again. Versions of models stay as they are; they know images by the hashes of their files, too.
    Fetched images are fetched again, because a file of the cache may be that of another image. Raises `StorageError`.
    """
    catalog = home.shared.catalog() if home.shared.catalog else _own_catalog(home.path)
    try:
        with home.transaction("journal.sqlite") as journal:
            moves = read_moves(home.working, lambda: find_moves(journal, catalog))
            write_split_images(home.copies, moves)
            if journal is not None:
                _move_rows(journal, moves)
        if catalog is not None and moves.targets:
            move_documents(catalog, moves, home.copies)
    finally:
        if isinstance(catalog, SqliteCatalog):
            catalog.close()
    _rename_arrays(home, moves.names())
    for cache in (home.path / "images", *home.path.glob("azure/*/images")):
        shutil.rmtree(cache, ignore_errors=True)
    _report(moves, home.copies)


def _own_catalog(home: Path) -> Catalog | None:
    path = home / "catalog.sqlite"
    return SqliteCatalog(path) if path.exists() else None


def _move_rows(journal: sqlite3.Connection, moves: ImageMoves) -> None:
    """Move the annotations and tasks, and let the labels of their images be decided again."""
    for former, targets in moves.targets.items():
        for new, addresses in targets.items():
            for project, uris in addresses.items():
                for uri in uris:
                    for table in ("annotations", "tasks"):
                        journal.execute(
                            f"UPDATE {table} SET image_id = ? WHERE project = ? AND image_id = ? AND uri = ?",  # noqa: S608
                            (new, project, former, uri),
                        )
    for former, targets in moves.targets.items():
        projects = {project for addresses in targets.values() for project in addresses}
        for image in (former, *targets):
            for project in projects:
                _mark(journal, project, image)


def _mark(journal: sqlite3.Connection, project: str, image: str) -> None:
    known = any(
        journal.execute(f"SELECT 1 FROM {table} WHERE project = ? AND image_id = ?", (project, image)).fetchone()  # noqa: S608
        for table in ("annotations", "tasks")
    )
    if known:
        journal.execute(
            "INSERT INTO dirty SELECT ?, ?, seq FROM folded WHERE true ON CONFLICT DO NOTHING", (project, image)
        )
    else:
        journal.execute("DELETE FROM dirty WHERE project = ? AND image_id = ?", (project, image))


def _rename_arrays(home: OldHome, names: Mapping[str, str]) -> None:
    if not names:
        return
    for folder in ("embeddings", "pictures"):
        for index in home.path.glob(f"{folder}/*/index.jsonl"):
            log.info("%s: %d rows have new ids", index.parent, rename_rows(index.parent, names))
    if home.shared.rename_embeddings:
        home.shared.rename_embeddings(names)
    for copies in home.path.glob("azure/*/embeddings"):
        shutil.rmtree(copies, ignore_errors=True)  # copies of what is in Azure
    for file in _RUN_FILES:
        run = home.path / "pretraining" / file
        with storage_errors(run):
            if run.exists():
                write_atomically(run, json.dumps(_renamed(json.loads(run.read_bytes()), names), indent=1).encode())


def _renamed(run: dict[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """Return the data of a pre-training with new ids, in the same order: its checkpoints count positions."""
    ids, probe = run.get("ids"), run.get("probe")
    if isinstance(ids, list):
        run["ids"] = [names.get(id, id) for id in ids]
    if isinstance(probe, list):
        run["probe"] = [{**image, "id": names.get(image["id"], image["id"])} for image in probe]
    return run


def _report(moves: ImageMoves, folder: Path) -> None:
    split = moves.split
    log.warning(
        "%d images have new ids; %d ids were shared by several images", len(moves.targets) - len(split), len(split)
    )
    if not split:
        return
    images = sum(len(targets) for targets in split.values())
    log.warning(
        "%d images had one id with others, and the labels of one replaced those of another. Each has an id of its own"
        " now, and the labels of its own annotations. Their addresses are in %s:",
        images,
        folder / "split-images.csv",
    )
    for targets in list(split.values())[:_SHOWN]:
        uris = {uri for addresses in targets.values() for uris in addresses.values() for uri in uris}
        log.warning("  %s", ", ".join(sorted(uris)))
