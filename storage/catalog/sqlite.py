"""The catalogue in a SQLite file: one table of documents, and one of the images of each project."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.facets import FACETS_SCHEMA, Facet, node_of_value
from taxonomist.storage.catalog.label_query import Found, LabelQuery, matches
from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.errors import ConflictError, DamagedError
from taxonomist.taxonomy.paths import TaxonomyPath

if TYPE_CHECKING:
    from taxonomist.storage.catalog import Change

__all__ = ["SqliteCatalog"]

log = logging.getLogger(__name__)
_PAGE = 500
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, etag TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS memberships (
    project TEXT NOT NULL, image_id TEXT NOT NULL, labelled INTEGER NOT NULL,
    PRIMARY KEY (project, image_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS memberships_image ON memberships (image_id);
"""
    + FACETS_SCHEMA
)


class SqliteCatalog:
    """A `Catalog` for one machine. Threads and processes may share the file.

    A `Change` runs in the write transaction, so it must be fast and must not call the catalogue.
    """

    def __init__(self, path: Path | str) -> None:
        self._database = Database(path, _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def get(self, id: str) -> ImageDocument | None:
        """See `Catalog.get`."""
        with self._database.read() as connection:
            return _load(connection, id)

    def get_many(self, ids: Iterable[str]) -> dict[str, ImageDocument]:
        """See `Catalog.get_many`."""
        found: dict[str, ImageDocument] = {}
        with self._database.read() as connection:
            for id in dict.fromkeys(ids):
                if (document := _load(connection, id)) is not None:
                    found[id] = document
        return found

    def put(self, document: ImageDocument, *, if_match: str | None = None) -> ImageDocument:
        """See `Catalog.put`."""
        with self._database.write() as connection:
            if if_match is not None:
                row = connection.execute("SELECT etag FROM documents WHERE id = ?", (document.id,)).fetchone()
                if row is None or row["etag"] != if_match:
                    raise ConflictError(
                        f"The document {document.id} changed since it was read.", hint="Read it again and repeat."
                    )
            return _save(connection, document)

    def update(self, id: str, change: "Change") -> ImageDocument:
        """See `Catalog.update`. There are no conflicts, because the transaction begins before the document is read."""
        with self._database.write() as connection:
            return _change(connection, id, change)[0]

    def update_many(self, changes: Mapping[str, "Change"]) -> int:
        """See `Catalog.update_many`. All documents are written, or none when a change raises."""
        if not changes:
            return 0
        with self._database.write() as connection:
            return sum(_change(connection, id, change)[1] for id, change in changes.items())

    def documents(self, project: str | None = None, *, labelled: bool | None = None) -> Iterator[ImageDocument]:
        """See `Catalog.documents`. Each page of 500 is one state of the file; a slow reader blocks no writer."""
        for row in self._rows(project, labelled):
            if (document := _parsed_or_none(row)) is not None:
                yield document

    def find(self, query: LabelQuery) -> Iterator[Found]:
        """See `Catalog.find`."""
        for row in self._rows(query.project, None):
            try:
                document = _parse(row) if matches(json.loads(row["body"]), query) else None
            except (DamagedError, ValueError) as error:
                log.warning("The document %s is skipped: %s", row["id"], error)
                continue
            if document is not None:
                yield Found(document)

    def _rows(self, project: str | None, labelled: bool | None) -> Iterator[sqlite3.Row]:
        source, key, where, values = _filter(project, labelled)
        query = f"SELECT d.* FROM {source} WHERE {where} AND {key} > ? ORDER BY {key} LIMIT {_PAGE}"  # noqa: S608
        last = ""
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, (*values, last)).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1]["id"]

    def count(self, project: str | None = None, *, labelled: bool | None = None) -> int:
        """See `Catalog.count`."""
        source, _, where, values = _filter(project, labelled)
        table = source.partition(" JOIN ")[0]  # each membership has its document
        with self._database.read() as connection:
            row = connection.execute(f"SELECT count(*) FROM {table} WHERE {where}", values).fetchone()  # noqa: S608
        return int(row[0])

    def count_reasons(self, project: str) -> dict[str | None, int]:
        """See `Catalog.count_reasons`."""
        query = (
            "SELECT CASE WHEN json_valid(d.body) THEN json_extract(d.body, ?) END AS reason, count(*) AS images"
            " FROM memberships m JOIN documents d ON d.id = m.image_id"
            " WHERE m.project = ? AND m.labelled = 0 GROUP BY reason"
        )
        with self._database.read() as connection:
            rows = connection.execute(query, (f'$.projects."{project}".reason', project)).fetchall()
        return {row["reason"]: row["images"] for row in rows}

    def count_nodes(self, project: str) -> dict[tuple[str, TaxonomyPath], int]:
        """See `Catalog.count_nodes`."""
        query = "SELECT value, images FROM facet_counts WHERE project = ? AND facet = 'node'"
        with self._database.read() as connection:
            rows = connection.execute(query, (project,)).fetchall()
        return {node_of_value(row["value"]): row["images"] for row in rows}

    def count_states(self, project: str) -> dict[str, int]:
        """See `Catalog.count_states`."""
        query = "SELECT value, images FROM facet_counts WHERE project = ? AND facet = 'state'"
        with self._database.read() as connection:
            return {row["value"]: row["images"] for row in connection.execute(query, (project,))}

    def page(
        self, project: str, facets: Sequence[Facet] = (), *, after: str = "", limit: int = 60
    ) -> list[ImageDocument]:
        """See `Catalog.page`."""
        source = "facets" if facets else "memberships"
        conditions = ["m.project = ?", "m.image_id > ?"]
        values: list[object] = [project, after]
        if facets:
            conditions.append("m.facet = ? AND m.value = ?")
            values += facets[0].row
        for facet in facets[1:]:
            conditions.append(
                "EXISTS (SELECT 1 FROM facets f WHERE f.project = m.project AND f.facet = ? AND f.value = ?"
                " AND f.image_id = m.image_id)"
            )
            values += facet.row
        query = (
            f"SELECT d.* FROM {source} m CROSS JOIN documents d ON d.id = m.image_id"  # noqa: S608
            f" WHERE {' AND '.join(conditions)} ORDER BY m.image_id LIMIT ?"
        )
        found: list[ImageDocument] = []
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, (*values, limit)).fetchall()
            found += [document for row in rows if (document := _parsed_or_none(row)) is not None]
            if len(found) >= limit or len(rows) < limit:
                return found[:limit]
            values[1] = rows[-1]["id"]

    def oldest(self, project: str, facet: Facet) -> datetime | None:
        """See `Catalog.oldest`."""
        query = (
            "SELECT min(CASE WHEN json_valid(d.body) THEN json_extract(d.body, ?) END) FROM facets f"
            " CROSS JOIN documents d ON d.id = f.image_id WHERE f.project = ? AND f.facet = ? AND f.value = ?"
        )
        path = f'$.projects."{project}".updated_at'
        with self._database.read() as connection:
            found = connection.execute(query, (path, project, *facet.row)).fetchone()[0]
        return datetime.fromisoformat(found) if found else None

    def delete(self, ids: Iterable[str]) -> None:
        """Delete the documents, and their places in projects."""
        rows = [(id,) for id in ids]
        with self._database.write() as connection:
            connection.executemany("DELETE FROM documents WHERE id = ?", rows)
            connection.executemany("DELETE FROM memberships WHERE image_id = ?", rows)

    def leave_project(self, project: str, ids: Iterable[str]) -> None:
        """See `Catalog.leave_project`."""
        with self._database.write() as connection:
            for id in ids:
                if _load(connection, id) is not None:
                    _change(connection, id, lambda document: document.without_project(project))

    def drop(self, ids: Iterable[str]) -> int:
        """See `Catalog.drop`."""
        with self._database.write() as connection:
            unused = [id for id in ids if (document := _load(connection, id)) is not None and document.unused]
            connection.executemany("DELETE FROM documents WHERE id = ?", [(id,) for id in unused])
        return len(unused)

    def erase_deleted(self, *, rebuild: bool = False) -> None:
        """See `Database.erase_deleted`."""
        self._database.erase_deleted(rebuild=rebuild)

    def projects(self) -> list[str]:
        """See `Catalog.projects`."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT DISTINCT project FROM memberships ORDER BY project").fetchall()
        return [row["project"] for row in rows]


def _filter(project: str | None, labelled: bool | None) -> tuple[str, str, str, tuple[Any, ...]]:
    """Return the tables, the column that orders them, the condition and its values."""
    if project is not None:
        source = "memberships m JOIN documents d ON d.id = m.image_id"
        if labelled is None:
            return source, "m.image_id", "m.project = ?", (project,)
        return source, "m.image_id", "m.project = ? AND m.labelled = ?", (project, int(labelled))
    if labelled is None:
        return "documents d", "d.id", "true", ()
    inside = "EXISTS (SELECT 1 FROM memberships m WHERE m.image_id = d.id AND m.labelled = 1)"
    return "documents d", "d.id", inside if labelled else f"NOT {inside}", ()


def _load(connection: sqlite3.Connection, id: str) -> ImageDocument | None:
    row = connection.execute("SELECT id, etag, body FROM documents WHERE id = ?", (id,)).fetchone()
    return None if row is None else _parse(row)


def _parsed_or_none(row: sqlite3.Row) -> ImageDocument | None:
    try:
        return _parse(row)
    except DamagedError as error:
        log.warning("%s It is skipped.", error)
        return None


def _parse(row: sqlite3.Row) -> ImageDocument:
    try:
        return _from_text(row["body"]).model_copy(update={"etag": row["etag"]})
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedError(f"The document {row['id']} in the catalogue cannot be read: {_brief(error)}.") from error


def _from_text(body: str) -> ImageDocument:
    try:
        return ImageDocument.model_validate_json(body)
    except ValidationError:  # pydantic's parser takes no half characters, Python's does
        return ImageDocument.model_validate(json.loads(body))


def _to_text(document: ImageDocument) -> str:
    try:
        return document.model_dump_json(by_alias=True, exclude={"etag"})
    except PydanticSerializationError:
        return json.dumps(document.model_dump(mode="json", by_alias=True, exclude={"etag"}), separators=(",", ":"))


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(part for part in map(str, first["loc"]) if "[" not in part)  # without names of types
        return f"{place}: {first['msg']}"
    return str(error)


def _change(connection: sqlite3.Connection, id: str, change: "Change") -> tuple[ImageDocument, bool]:
    stored = _load(connection, id)
    before = stored or ImageDocument(id=id)
    after = change(before)
    if after is None or (stored is not None and after == before):
        return before, False
    return _save(connection, after.model_copy(update={"id": id})), True


def _save(connection: sqlite3.Connection, document: ImageDocument) -> ImageDocument:
    # Validated again because `model_copy(update=...)` takes anything.
    stored = _from_text(_to_text(document)).model_copy(update={"etag": uuid4().hex})
    connection.execute(
        "INSERT INTO documents (id, etag, body) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET etag = excluded.etag, body = excluded.body",
        (stored.id, stored.etag, _to_text(stored)),
    )
    now = {project: int(labels.labelled) for project, labels in stored.projects.items()}
    rows = connection.execute("SELECT project, labelled FROM memberships WHERE image_id = ?", (stored.id,)).fetchall()
    before = {row["project"]: row["labelled"] for row in rows}
    if now != before:
        connection.execute("DELETE FROM memberships WHERE image_id = ?", (stored.id,))
        connection.executemany(
            "INSERT INTO memberships (project, image_id, labelled) VALUES (?, ?, ?)",
            [(project, stored.id, labelled) for project, labelled in now.items()],
        )
    return stored
