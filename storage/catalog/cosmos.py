"""The catalogue in Azure Cosmos DB: one item per document, in one or several containers."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog.cosmos_documents import body, parse, was_written_by
from taxonomist.storage.catalog.cosmos_items import CosmosItems, Stored
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.facets import LABELLED, UNANNOTATED, Facet, facets_of
from taxonomist.storage.catalog.label_query import Found, LabelQuery, cosmos_where
from taxonomist.taxonomy.errors import ConflictError, DamagedError
from taxonomist.taxonomy.paths import TaxonomyPath

if TYPE_CHECKING:
    from taxonomist.storage.catalog import Change

__all__ = ["CosmosCatalog"]

log = logging.getLogger(__name__)
T = TypeVar("T")
_CONCURRENCY = 16
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5


@dataclass
class _Batch:
    """Documents that are written in one call. `new`: the last one was new, so the next one probably is too."""

    new: bool = False


class CosmosCatalog:
    """A `Catalog` for several machines. Threads may share it.

    Each id should be stored once; of an id in two containers, the document in the first container counts. A document of
    another program that is not a valid `ImageDocument` is left out of lists, with a line in the log. A `Change` runs in
    the client's thread, so it must be fast and must not call the catalogue.
    """

    def __init__(self, access: CosmosAccess, retry_policy: RetryPolicy | None = None) -> None:
        self._connection = CosmosConnection(access, retry_policy or RetryPolicy())
        self._items = CosmosItems(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def get(self, id: str) -> ImageDocument | None:
        """See `Catalog.get`."""
        stored = self._connection.run(lambda: self._items.locate(id))
        return parse(stored.item) if stored else None

    def get_many(self, ids: Iterable[str]) -> dict[str, ImageDocument]:
        """See `Catalog.get_many`."""
        wanted = list(dict.fromkeys(ids))
        found = self._connection.run(lambda: _bounded(self._items.locate, wanted))
        return {id: parse(stored.item) for id, stored in zip(wanted, found, strict=True) if stored}

    def put(self, document: ImageDocument, *, if_match: str | None = None) -> ImageDocument:
        """See `Catalog.put`."""
        return self._connection.run(lambda: self._put(document, if_match))

    def update(self, id: str, change: Change) -> ImageDocument:
        """See `Catalog.update`."""
        return self._connection.run(lambda: self._update(id, change))[0]

    def update_many(self, changes: Mapping[str, Change]) -> int:
        """See `Catalog.update_many`. Each document is written separately; documents written before an error stay."""
        batch = _Batch()
        done = self._connection.run(lambda: _bounded(lambda id: self._update(id, changes[id], batch), list(changes)))
        return sum(written for _, written in done)

    def documents(self, project: str | None = None, *, labelled: bool | None = None) -> Iterator[ImageDocument]:
        """See `Catalog.documents`."""
        return (found.document for found in self._found(*_membership(project, labelled)))

    def count(self, project: str | None = None, *, labelled: bool | None = None) -> int:
        """See `Catalog.count`. Ids that are stored twice and documents that cannot be read are counted too."""
        where, parameters = _membership(project, labelled)
        sql = f"SELECT VALUE COUNT(1) FROM c WHERE {where}"  # noqa: S608
        return sum(self._items.ask(sql, parameters, "count documents"))

    def count_reasons(self, project: str) -> dict[str | None, int]:
        """See `Catalog.count_reasons`. Documents that cannot be read are counted too."""
        where, parameters = _membership(project, labelled=False)
        reasons: Counter[str | None] = Counter()
        for stored in self._items.find(where, parameters, "c.id, c.projects"):
            labels = (stored.item.get("projects") or {}).get(project)
            reasons[labels.get("reason") if isinstance(labels, dict) else None] += 1
        return dict(reasons)

    def count_nodes(self, project: str) -> dict[tuple[str, TaxonomyPath], int]:
        """See `Catalog.count_nodes`. It reads the labels of all labelled images."""
        where, parameters = _membership(project, labelled=True)
        counts: Counter[tuple[str, TaxonomyPath]] = Counter()
        for stored in self._items.find(where, parameters, "c.id, c.projects"):
            document = _parsed_or_none(stored.item)
            for facet in facets_of(document, project) if document else ():
                if facet.name == "node":
                    counts[facet.value[0], facet.value[1:]] += 1
        return dict(counts)

    def count_states(self, project: str) -> dict[str, int]:
        """See `Catalog.count_states`."""
        states = Counter({LABELLED: self.count(project, labelled=True)})
        for reason, images in self.count_reasons(project).items():
            states[reason or UNANNOTATED] += images
        return dict(+states)

    def page(
        self, project: str, facets: Sequence[Facet] = (), *, after: str = "", limit: int = 60
    ) -> list[ImageDocument]:
        """See `Catalog.page`. With facets of rare images it reads many documents."""
        wanted = self._of_project(project, facets, after, None if facets else limit)
        return list(islice(wanted, limit))

    def oldest(self, project: str, facet: Facet) -> datetime | None:
        """See `Catalog.oldest`. It reads all documents with the facet."""
        times = (document.projects[project].updated_at for document in self._of_project(project, [facet]))
        return min((at for at in times if at is not None), default=None)

    def _of_project(
        self, project: str, facets: Sequence[Facet], after: str = "", at_once: int | None = None
    ) -> Iterator[ImageDocument]:
        labelled = next((facet.value == (LABELLED,) for facet in facets if facet.name == "state"), None)
        labelled = labelled or (True if any(facet.name == "node" for facet in facets) else labelled)
        where, parameters = _membership(project, labelled)
        for _, item in self._items.find(where, parameters, after=after, at_once=at_once):
            document = _parsed_or_none(item)
            if document is not None and set(facets) <= set(facets_of(document, project)):
                yield document

    def find(self, query: LabelQuery) -> Iterator[Found]:
        """See `Catalog.find`."""
        return self._found(*cosmos_where(query))

    def leave_project(self, project: str, ids: Iterable[str]) -> None:
        """See `Catalog.leave_project`."""

        def leave(document: ImageDocument) -> ImageDocument | None:
            return document.without_project(project) if document.etag else None

        self.update_many(dict.fromkeys(ids, leave))

    def drop(self, ids: Iterable[str]) -> int:
        """See `Catalog.drop`."""
        return sum(self._connection.run(lambda: _bounded(self._drop, list(ids))))

    def projects(self) -> list[str]:
        """See `Catalog.projects`."""
        known: list[str] = []  # queried one by one: the part of the query language that is safe to use has no DISTINCT
        sql = (
            "SELECT TOP 1 VALUE p FROM c JOIN p IN c.taxonomist.projects"
            " WHERE IS_STRING(p) AND NOT ARRAY_CONTAINS(@known, p)"
        )
        while more := self._items.ask(sql, {"@known": known}, "list the projects"):
            known = sorted({*known, *more})
        return known

    def _found(self, where: str, parameters: Mapping[str, Any]) -> Iterator[Found]:
        """Return the documents for which a condition holds, in the order of their ids over all containers."""
        for container, item in self._items.find(where, parameters):
            if (document := _parsed_or_none(item)) is not None:
                yield Found(document, container.name)

    async def _update(self, id: str, change: Change, batch: _Batch | None = None) -> tuple[ImageDocument, bool]:
        mark, batch = secrets.token_hex(4), batch or _Batch()

        async def attempt(stored: Stored | None) -> tuple[ImageDocument, bool] | None:
            if stored and was_written_by(mark, stored.item):
                return parse(stored.item), True
            before = parse(stored.item) if stored else ImageDocument(id=id)
            after = change(before)
            if after is None or (stored and after == before):
                return before, False
            wanted = after.model_copy(update={"id": id})
            written = await self._items.write(id, stored, body(wanted, mark, stored.item if stored else {}))
            return (parse(written), True) if written else None

        if batch.new:
            # Assume that the document is new, which saves a read. If it exists, nothing is created, and it is read.
            created = await attempt(None)
            if created and created[1]:
                return created

        async def informed(stored: Stored | None) -> tuple[ImageDocument, bool] | None:
            batch.new = stored is None and await self._ids_are_unique()
            return await attempt(stored)

        return await self._until_done(id, informed)

    async def _ids_are_unique(self) -> bool:
        """Return whether the database itself refuses to create a document with an existing id."""
        containers = await self._connection.containers()
        return len(containers) == 1 and containers[0].by_id

    async def _put(self, document: ImageDocument, if_match: str | None) -> ImageDocument:
        mark = secrets.token_hex(4)

        async def attempt(stored: Stored | None) -> ImageDocument | None:
            if stored and was_written_by(mark, stored.item):
                return parse(stored.item)
            if if_match is not None and (stored is None or stored.item["_etag"] != if_match):
                raise ConflictError(
                    f"The document {document.id} changed since it was read.", hint="Read it again and repeat."
                )
            content = body(document, mark, stored.item if stored else {}, whole=True)
            written = await self._items.write(document.id, stored, content)
            return parse(written) if written else None

        return await self._until_done(document.id, attempt)

    async def _until_done(self, id: str, attempt: Callable[[Stored | None], Awaitable[T | None]]) -> T:
        """Read and attempt, again after a conflict (None), so that changes of other writers are merged, never lost."""
        until, pause = time.monotonic() + self._connection.retry_policy.total_s, _FIRST_PAUSE_S
        while True:
            if (done := await attempt(await self._items.locate(id))) is not None:
                return done
            if time.monotonic() > until:
                raise ConflictError(f"Other writers keep changing the document {id}.", hint="Try again later.")
            await asyncio.sleep(pause * random.random())  # noqa: S311 - not used for security
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _drop(self, id: str) -> bool:
        """Delete the document from every container in which it is unused; return whether there was one."""
        dropped = False

        async def attempt(stored: Stored | None) -> bool | None:
            nonlocal dropped
            if stored is None or not parse(stored.item).unused:
                return dropped
            dropped = await self._items.delete(id, stored) or dropped
            return None  # another container may have it too

        return await self._until_done(id, attempt)


def _parsed_or_none(item: Mapping[str, Any]) -> ImageDocument | None:
    try:
        return parse(item)
    except DamagedError as error:
        log.warning("Skipped: %s", error)
        return None


def _membership(project: str | None, labelled: bool | None) -> tuple[str, dict[str, Any]]:
    """Return the condition of `documents` and `count`, on the derived fields that each of our documents has."""
    values = {} if project is None else {"@project": project}
    inside = "ARRAY_CONTAINS(c.taxonomist.{}, @project)" if values else "ARRAY_LENGTH(c.taxonomist.{}) > 0"
    demands = []
    if project is not None:
        demands.append("IS_ARRAY(c.taxonomist.projects) AND " + inside.format("projects"))
    if labelled is not None:
        demand = "(IS_ARRAY(c.taxonomist.labelled) AND " + inside.format("labelled") + ")"
        demands.append(demand if labelled else f"NOT {demand}")
    return " AND ".join(demands) or "true", values


async def _bounded(work: Callable[[str], Awaitable[T]], ids: list[str]) -> list[T]:
    """Return the results in order, with bounded concurrency. After an error the other calls are cancelled."""
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def limited(id: str) -> T:
        async with limit:
            return await work(id)

    tasks = [asyncio.ensure_future(limited(id)) for id in ids]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
