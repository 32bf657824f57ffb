"""Inspects the database, containers and query function in Cosmos DB, and creates missing ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Literal, TypeVar

from azure.core.exceptions import HttpResponseError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import DatabaseProxy

from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy, status_of
from taxonomist.taxonomy.errors import StorageError

__all__ = ["FUNCTION", "ContainerState", "inspect", "install"]

T = TypeVar("T")
FUNCTION = "filterDocumentsByLabels"


@dataclass(frozen=True)
class ContainerState:
    """The state of a container: the fields of its partition key (None when it is missing), and our query function.

    The function is "hidden" when reading it is not allowed: rights on data alone do not include that.
    """

    name: str
    key_paths: tuple[str, ...] | None
    function: Literal["current", "outdated", "missing", "hidden"]


def inspect(access: CosmosAccess, retry_policy: RetryPolicy | None = None) -> list[ContainerState]:
    """Return the state of each container. Raises `StorageError` when Cosmos DB is not reachable."""
    connection = CosmosConnection(access, retry_policy or RetryPolicy())

    async def look() -> list[ContainerState]:
        database = (await connection.client()).get_database_client(access.database)
        return [await _look(connection, database, name) for name in access.containers]

    try:
        return connection.run(look)
    finally:
        connection.close()


async def _look(connection: CosmosConnection, database: DatabaseProxy, name: str) -> ContainerState:
    container = database.get_container_client(name)
    properties = await _call(connection, container.read, f"read the container {name}", but=404)
    if properties is None:
        return ContainerState(name, None, "missing")
    paths = tuple(properties["partitionKey"]["paths"])
    read = partial(container.scripts.get_user_defined_function, FUNCTION)
    try:
        found = await _call(connection, read, f"read the function in {name}", but=404)
    except StorageError as error:
        if status_of(error.__cause__ or error) not in (401, 403):
            raise
        return ContainerState(name, paths, "hidden")
    if found is None:
        return ContainerState(name, paths, "missing")
    return ContainerState(name, paths, "current" if found["body"] == _text() else "outdated")


def install(access: CosmosAccess, retry_policy: RetryPolicy | None = None) -> list[str]:
    """Create what is missing, update the function, and return one line for each thing found, created or updated.

    It may be repeated at any time. Raises `StorageError` when Azure refuses, as it does for Entra ID: rights on data do
    not include creating a database, a container or a function; the account's key does.
    """
    connection = CosmosConnection(access, retry_policy or RetryPolicy())
    try:
        return connection.run(_Installation(connection).run)
    finally:
        connection.close()


class _Installation:
    def __init__(self, connection: CosmosConnection) -> None:
        self._connection = connection
        self._done: list[str] = []

    async def run(self) -> list[str]:
        access = self._connection.access
        client = await self._connection.client()
        database = client.get_database_client(access.database)
        await self._ensure(
            f"database {access.database}", database.read, lambda: client.create_database(access.database)
        )
        for name in access.containers:
            await self._container(database, name)
        return self._done

    async def _container(self, database: DatabaseProxy, name: str) -> None:
        container, key = database.get_container_client(name), PartitionKey(path="/id")
        await self._ensure(
            f"container {name}", container.read, lambda: database.create_container(name, partition_key=key)
        )
        scripts, text = container.scripts, _text()
        definition = {"id": FUNCTION, "body": text}
        what = f"function {FUNCTION} in {name}"
        found = await self._ensure(
            what,
            lambda: scripts.get_user_defined_function(FUNCTION),
            lambda: scripts.create_user_defined_function(definition),
        )
        if found and found["body"] != text:
            await self._call(lambda: scripts.replace_user_defined_function(FUNCTION, definition), f"replace the {what}")
            self._done[-1] = f"{what}: updated"

    async def _ensure(
        self,
        what: str,
        read: Callable[[], Awaitable[T]],
        create: Callable[[], Awaitable[object]],
    ) -> T | None:
        """Return the existing thing, None when it was created."""
        if (found := await self._call(read, f"read the {what}", but=404)) is not None:
            self._done.append(f"{what}: exists")
            return found
        # 409: another process was faster, or a response was lost.
        await self._call(create, f"create the {what}", but=409)
        self._done.append(f"{what}: created")
        return None

    async def _call(self, work: Callable[[], Awaitable[T]], what: str, *, but: int = 0) -> T | None:
        return await _call(self._connection, work, what, but=but)


async def _call(connection: CosmosConnection, work: Callable[[], Awaitable[T]], what: str, *, but: int = 0) -> T | None:
    """Return the result of `work`, None when the response has the status `but`."""
    try:
        return await connection.retry_policy.call(work, what)
    except HttpResponseError as error:
        if status_of(error) == but:
            return None
        raise StorageError(f"Azure did not {what}: status {status_of(error)}.") from error


def _text() -> str:
    """Return the source of the function alone, without the comments before it; nothing may follow it."""
    source = files("taxonomist.storage.catalog").joinpath("filter_documents_by_labels.js").read_text(encoding="utf-8")
    return source[source.index("function ") :].strip()
