"""Moves the documents of images to their new ids. The originals are kept in a file, so a killed move is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from taxonomist.storage.catalog import Catalog, ImageDocument, ProjectLabels, SqliteCatalog
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.files import storage_errors, sync_file
from taxonomist.storage.home.image_moves import ImageMoves, Targets

__all__ = ["move_documents"]

_CHUNK = 500
_FILE = "documents.jsonl"

T = TypeVar("T")
_Change = Callable[[ImageDocument], ImageDocument | None]


def move_documents(catalog: Catalog, moves: ImageMoves, folder: Path) -> None:
    """Give each image that moves its document: the entries of its projects, with its product and its part.

    Labels stay with the address that they were decided for, and are to be decided again. A former document is deleted
    in SQLite. In Cosmos DB it stays, outside all projects and without an address, and `moved_to` names the new ids.
    """
    originals = folder / _FILE
    if not originals.exists():
        _keep(catalog, moves, originals)
    names = moves.names()
    for documents in _read(originals):
        former = {document.id: partial(_without, moved=moves.targets[document.id]) for document in documents}
        catalog.update_many(former)
        if isinstance(catalog, SqliteCatalog):
            stored = catalog.get_many(former)
            catalog.delete(id for id, document in stored.items() if not document.projects)
    for documents in _read(originals):
        changes: dict[str, list[_Change]] = {}
        for document in documents:
            targets = moves.targets[document.id]
            for new, addresses in targets.items():
                moved = _moved(document, new, addresses, is_sure=not names[document.id].endswith("~"))
                if moved is not None:
                    changes.setdefault(new, []).append(partial(_joined, moved=moved))
        catalog.update_many({new: partial(_all, changes=each) for new, each in changes.items()})


def _keep(catalog: Catalog, moves: ImageMoves, path: Path) -> None:
    unfinished = path.with_suffix(".part")
    with storage_errors(path), unfinished.open("w", encoding="utf-8") as file:
        for ids in _chunks(moves.targets):
            for document in catalog.get_many(ids).values():
                file.write(json.dumps(document.to_json()) + "\n")
    with storage_errors(path):
        sync_file(unfinished)
        unfinished.rename(path)


def _read(path: Path) -> Iterator[list[ImageDocument]]:
    with storage_errors(path), path.open(encoding="utf-8") as file:
        for lines in _chunks(file):
            yield [ImageDocument.model_validate_json(line) for line in lines]


def _without(document: ImageDocument, moved: Targets) -> ImageDocument | None:
    """Return the document without what moves away; None when it is gone already."""
    if document.etag is None:
        return None
    for project in set(chain.from_iterable(moved.values())) & document.projects.keys():
        document = document.without_project(project)
    if document.projects:
        return document
    return document.model_copy(update={"uri_orig": None, "moved_to": sorted(moved)})


def _moved(
    document: ImageDocument, new: str, addresses: Mapping[str, list[str]], *, is_sure: bool
) -> ImageDocument | None:
    """Return the document of one of the images of a former document, None if that did not know it.

    Unless it `is_sure` that the file that was read is this image's, its hash and size are forgotten.
    """
    projects = document.projects.keys() & addresses.keys()
    if not projects and "" not in addresses:
        return None
    uris = list(chain.from_iterable(addresses.values()))
    moved = document.model_copy(update={"id": new, "etag": None})
    for project, labels in document.projects.items():
        if project not in projects or labels.uri not in addresses[project]:
            moved = moved.without_project(project)
        if project in projects and labels.uri not in addresses[project]:
            entry = ProjectLabels(uri=addresses[project][0], group=labels.group, part=labels.part)
            moved = moved.in_project(project, entry)
    kept = document.uri_orig if document.uri_orig and image_id(document.uri_orig) == new else uris[0]
    unknown = {} if is_sure else {"file_hash": None, "resolution_width": None, "resolution_height": None}
    return moved.model_copy(update={"uri_orig": kept, **unknown})


def _joined(document: ImageDocument, moved: ImageDocument) -> ImageDocument:
    """Return the moved document, with what another former document has brought here."""
    if not document.projects:
        return moved.model_copy(update={"etag": document.etag})
    for project, labels in moved.projects.items():
        known = document.projects.get(project)
        if known is None:
            entries = [entry for entry in moved.labels_with_taxonomy if _project(entry) == project]
            document = document.in_project(project, labels)
            document = document.annotated(project, entries, has_review=bool(document.has_review or moved.has_review))
        elif "train" in {known.part, labels.part} and known.part != "train":
            document = document.in_project(project, known.model_copy(update={"part": "train"}))
    return document


def _all(document: ImageDocument, changes: Iterable[_Change]) -> ImageDocument:
    for change in changes:
        document = change(document) or document
    return document


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _project(entry: object) -> object:
    return (getattr(entry, "model_extra", None) or {}).get("project")
