"""Database, containers and our function in Cosmos DB: looked at, and made where they are missing."""

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
    """What is there of a container: the fields that it is spread by, None without a container, and our function.

    The function is "hidden" when we may not look at it: rights on data alone do not allow that.
    """

    name: str
    key_paths: tuple[str, ...] | None
    function: Literal["current", "outdated", "missing", "hidden"]


def inspect(access: CosmosAccess, retry_policy: RetryPolicy | None = None) -> list[ContainerState]:
    """Look at each container, and change nothing. Raises `StorageError` when Cosmos DB cannot be reached."""
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
    about = await _call(connection, container.read, f"read the container {name}", but=404)
    if about is None:
        return ContainerState(name, None, "missing")
    paths = tuple(about["partitionKey"]["paths"])
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
    """Make what is missing and bring the function up to date. Returns what was found or done, a line each.

    It may be repeated at any time. Raises `StorageError` when Azure refuses, as it does to Entra ID: rights on data
    do not allow to make a database, a container or a function; the account's key does.
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
            self._done[-1] = f"{what}: brought up to date"

    async def _ensure(
        self,
        what: str,
        read: Callable[[], Awaitable[T]],
        make: Callable[[], Awaitable[object]],
    ) -> T | None:
        """What is there, None when it had to be made."""
        if (found := await self._call(read, f"read the {what}", but=404)) is not None:
            self._done.append(f"{what}: is there")
            return found
        # 409: somebody else was faster, or an answer was lost.
        await self._call(make, f"make the {what}", but=409)
        self._done.append(f"{what}: made")
        return None

    async def _call(self, work: Callable[[], Awaitable[T]], what: str, *, but: int = 0) -> T | None:
        return await _call(self._connection, work, what, but=but)


async def _call(connection: CosmosConnection, work: Callable[[], Awaitable[T]], what: str, *, but: int = 0) -> T | None:
    """What `work` returns, None when the answer has the status `but`."""
    try:
        return await connection.retry_policy.call(work, what)
    except HttpResponseError as error:
        if status_of(error) == but:
            return None
        raise StorageError(f"Azure did not {what}: status {status_of(error)}.") from error


def _text() -> str:
    """The function alone: what follows it must not be there, and comments before it need not."""
    source = files("taxonomist.storage.catalog").joinpath("filter_documents_by_labels.js").read_text(encoding="utf-8")
    return source[source.index("function ") :].strip()
