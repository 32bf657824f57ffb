"""The items of the containers in Cosmos DB: read, queried in pages, and written unless another writer was faster."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError

from taxonomist.storage.azure.cosmos_connection import INSTALL_HINT, Container, CosmosConnection
from taxonomist.storage.azure.retry_policy import status_of
from taxonomist.taxonomy.errors import NotFoundError, StorageError

Json = dict[str, Any]
_PAGE = 2500
_FORBIDDEN_IN_IDS = re.compile(r"[/\\?#]")


class Stored(NamedTuple):
    """An item and its container."""

    container: Container
    item: Json


class CosmosItems:
    """The items of all containers. The coroutines run in the connection's loop, the other methods wait for it."""

    def __init__(self, connection: CosmosConnection) -> None:
        self._connection = connection

    async def locate(self, id: str) -> Stored | None:
        """Return the item with that id from the first container that has it."""
        containers = await self._connection.containers()
        if not id or _FORBIDDEN_IN_IDS.search(id):  # no item can have such an id
            return None
        items = await asyncio.gather(*(self._read(container, id) for container in containers))
        pairs = zip(containers, items, strict=True)
        return next((Stored(container, item) for container, item in pairs if item), None)

    async def _read(self, container: Container, id: str) -> Json | None:
        what = f"read the document {id}"
        if not container.by_id:
            items = await self._query(container, "SELECT * FROM c WHERE c.id = @id", {"@id": id}, what)
            return items[0] if items else None
        try:
            return await self._connection.retry_policy.call(
                lambda: container.proxy.read_item(id, partition_key=id), what
            )
        except HttpResponseError as error:
            if status_of(error) == 404:
                return None
            raise _failed(error, what) from error

    async def _query(self, container: Container, sql: str, parameters: Mapping[str, Any], what: str) -> list[Any]:
        values = [{"name": name, "value": value} for name, value in parameters.items()]

        async def ask() -> list[Any]:
            return [item async for item in container.proxy.query_items(sql, parameters=values)]

        try:
            return await self._connection.retry_policy.call(ask, what)
        except HttpResponseError as error:
            raise _failed(error, what) from error

    def ask(self, sql: str, parameters: Mapping[str, Any], what: str) -> list[Any]:
        """Return the results of a query from all containers."""

        async def query() -> list[list[Any]]:
            containers = await self._connection.containers()
            return await asyncio.gather(*(self._query(container, sql, parameters, what) for container in containers))

        return list(itertools.chain(*self._connection.run(query)))

    def find(
        self,
        where: str,
        parameters: Mapping[str, Any],
        fields: str = "*",
        *,
        after: str = "",
        at_once: int | None = None,
    ) -> Iterator[Stored]:
        """Yield the items for which a condition holds, in the order of their ids over all containers, each id once.

        They have the given fields, of which `c.id` must be one, and an id above `after`. A query asks for `at_once`
        of them at most.
        """
        containers = self._connection.run(self._connection.containers)
        streams = [
            self._pages(container, where, parameters, fields, after, min(at_once or _PAGE, _PAGE))
            for container in containers
        ]
        last = ""
        for stored in heapq.merge(*streams, key=lambda stored: str(stored.item["id"])):
            if stored.item["id"] != last:
                last = stored.item["id"]
                yield stored

    def _pages(
        self, container: Container, where: str, parameters: Mapping[str, Any], fields: str, last: str, at_once: int
    ) -> Iterator[Stored]:
        """Yield items by pages. Each page is a query, so it can be retried and a slow reader holds nothing open."""
        sql = f"SELECT TOP {at_once} {fields} FROM c WHERE c.id > @last AND {where} ORDER BY c.id"  # noqa: S608
        while True:
            values = {**parameters, "@last": last}
            page = self._connection.run(lambda: self._query(container, sql, values, "list documents"))  # noqa: B023
            yield from (Stored(container, item) for item in page)
            if len(page) < at_once:
                return
            last = page[-1]["id"]

    async def write(self, id: str, stored: Stored | None, content: Json) -> Json | None:
        """Return the item as it is stored now, None after a conflict.

        A conflict means that the item changed since it was read, or that an earlier write whose response was lost has
        succeeded; the next read tells which.
        """
        what = f"write the document {id}"
        container = stored.container if stored else (await self._connection.containers())[0]
        self._check(id, container, stored, content)

        async def write() -> Json:
            if stored is None:
                return await container.proxy.create_item(content)
            return await container.proxy.replace_item(
                id, content, etag=stored.item["_etag"], match_condition=MatchConditions.IfNotModified
            )

        try:
            return await self._connection.retry_policy.call(write, what)
        except HttpResponseError as error:
            if status_of(error) in (409, 412) or (stored and status_of(error) == 404):
                return None
            raise _failed(error, what) from error

    async def delete(self, id: str, stored: Stored) -> bool:
        """Delete an item; return False when it has changed since it was read, or is gone."""
        container, what = stored.container, f"delete the document {id}"
        values = [_value(stored.item, path) for path in container.key_paths]

        async def delete() -> None:
            await container.proxy.delete_item(
                id,
                partition_key=values[0] if len(values) == 1 else values,
                etag=stored.item["_etag"],
                match_condition=MatchConditions.IfNotModified,
            )

        try:
            await self._connection.retry_policy.call(delete, what)
        except HttpResponseError as error:
            if status_of(error) in (404, 412):
                return False
            raise _failed(error, what) from error
        return True

    def _check(self, id: str, container: Container, stored: Stored | None, content: Json) -> None:
        if not id or _FORBIDDEN_IN_IDS.search(id):
            raise StorageError(f"'{id}' is not a valid id in Cosmos DB.", hint="Remove / \\ ? and # from it.")
        for path in container.key_paths:
            if stored and _value(content, path) != _value(stored.item, path):
                raise StorageError(
                    f"The document {id} cannot change {path}, the partition key of its container '{container.name}'.",
                    hint="Use a container with the partition key /id for documents that are changed.",
                )


def _value(item: Mapping[str, Any], path: str) -> Any:
    value: Any = item
    for step in path.strip("/").split("/"):
        value = value.get(step.strip('"')) if isinstance(value, Mapping) else None
    return value


def _failed(error: HttpResponseError, what: str) -> StorageError:
    status = status_of(error)
    if status == 404:
        return NotFoundError(f"Azure did not {what}: the container does not exist.", hint=INSTALL_HINT)
    if status == 413:
        return StorageError(f"Azure did not {what}: the document has more than 2 MB.")
    hint = "The query function may be missing or old. Run `taxonomist cosmos install`." if status == 400 else None
    return StorageError(f"Azure did not {what}: status {status}.", hint=hint)
