"""Which ids of images change in a migration: found once in the journal and the catalogue, and kept in a file."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from taxonomist.storage.catalog import Catalog, ImageDocument
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.csv_text import for_spreadsheets, from_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.home.former_image_ids import former_image_id
from taxonomist.taxonomy.errors import DamagedError

__all__ = ["ImageMoves", "Targets", "find_moves", "read_moves", "read_split_images", "write_split_images"]

_FILE, _SPLIT_FILE = "image-ids.json", "split-images.csv"

Targets = Mapping[str, Mapping[str, list[str]]]
"""The ids that images of a former id have now; of each, the addresses by project ("" for a document in no project)."""

_MOVES = TypeAdapter(dict[str, dict[str, dict[str, list[str]]]])
_Row = tuple[str, str, str]  # project, former id, address


@dataclass(frozen=True)
class ImageMoves:
    """The targets of each former id that does not stay what it was."""

    targets: Mapping[str, Targets]

    @property
    def split(self) -> dict[str, Targets]:
        """The former ids that several images shared."""
        return {former: targets for former, targets in self.targets.items() if len(targets) > 1}

    def names(self) -> dict[str, str]:
        """Return the new name in a store of arrays for each former id.

        Where it is not known of which image the array is, the name is one that no image has (it ends with "~"), and the
        array is made again. To rename twice gives the same as to rename once.
        """
        wanted = Counter(new for targets in self.targets.values() for new in targets)
        names = {}
        for former, targets in self.targets.items():
            new = next(iter(targets))
            is_sure = len(targets) == 1 and wanted[new] == 1 and new not in self.targets
            names[former] = new if is_sure else f"{former}~"
        return names


def find_moves(journal: sqlite3.Connection | None, catalog: Catalog | None) -> ImageMoves:
    """Return the moves of the images in the journal and of the documents whose ids come from their addresses."""

    def rows() -> Iterator[_Row]:
        if journal is not None:
            yield from _journal_rows(journal)
        for document in catalog.documents() if catalog is not None else ():
            yield from _document_rows(document)

    moving = {former for _, former, uri in rows() if image_id(uri) != former}
    targets: dict[str, dict[str, dict[str, list[str]]]] = {}
    for project, former, uri in rows() if moving else ():
        if former in moving:
            addresses = targets.setdefault(former, {}).setdefault(image_id(uri), {}).setdefault(project, [])
            if uri not in addresses:
                addresses.append(uri)
    return ImageMoves(targets)


def _journal_rows(journal: sqlite3.Connection) -> Iterator[_Row]:
    for table in ("annotations", "tasks"):
        for row in journal.execute(f"SELECT DISTINCT project, image_id, uri FROM {table}"):  # noqa: S608
            yield row["project"], row["image_id"], row["uri"]


def _document_rows(document: ImageDocument) -> Iterator[_Row]:
    """Yield the addresses from which the id of a document was made. Other programs have ids of their own."""
    addresses = {project: labels.uri for project, labels in document.projects.items()}
    if not addresses and document.uri_orig:
        addresses = {"": document.uri_orig}
    for project, uri in addresses.items():
        if image_id(uri) == document.id or former_image_id(uri) == document.id:
            yield project, document.id, uri


def read_moves(folder: Path, find: Callable[[], ImageMoves]) -> ImageMoves:
    """Return the moves that an earlier attempt of the migration has found; the first attempt finds and keeps them.

    `folder` has the working files of this migration. Raises `DamagedError` when the file cannot be read.
    """
    path = folder / _FILE
    with storage_errors(path):
        if path.exists():
            try:
                return ImageMoves(_MOVES.validate_json(path.read_bytes()))
            except ValidationError as error:
                raise DamagedError(f"{path} cannot be read.", hint="Delete it and start again.") from error
    moves = find()
    write_atomically(path, json.dumps(moves.targets, indent=1).encode())
    return moves


def write_split_images(folder: Path, moves: ImageMoves) -> None:
    """Write a table for people with the images that shared an id, if there are any."""
    if not moves.split:
        return
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["former_id", "id", "address", "projects"])
    for former, targets in sorted(moves.split.items()):
        for new, addresses in sorted(targets.items()):
            uri = next(uri for uris in addresses.values() for uri in uris)
            rows.writerow(for_spreadsheets([former, new, uri, " ".join(sorted(filter(None, addresses)))]))
    write_atomically(folder / _SPLIT_FILE, table.getvalue().encode("utf-8", "surrogatepass"))


def read_split_images(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table of images that shared an id, empty without one."""
    try:
        text = (folder / _SPLIT_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    rows = csv.DictReader(io.StringIO(text))
    return [{name: from_spreadsheets(value) for name, value in row.items()} for row in rows]
