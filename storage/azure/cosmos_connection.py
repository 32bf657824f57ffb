"""The connection to one Cosmos DB account: access data, the client and the opened containers."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from weakref import WeakSet

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.documents import ConnectionPolicy

from taxonomist.storage.azure.credential import entra_credential
from taxonomist.storage.azure.retry_policy import RetryPolicy, status_of
from taxonomist.storage.event_loop_thread import EventLoopThread
from taxonomist.storage.fork_safety import after_fork, never_finalise
from taxonomist.storage.network.azure_transport import AzureTransport
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, StorageError

__all__ = ["INSTALL_HINT", "Container", "CosmosAccess", "CosmosConnection"]

T = TypeVar("T")
INSTALL_HINT = "Create it with `taxonomist cosmos install`."


@dataclass(frozen=True)
class CosmosAccess:
    """Where the documents are stored. Without a key Entra ID is used. New documents go to the first container."""

    endpoint: str
    key: str | None = field(repr=False)
    database: str
    containers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.containers:
            raise ConfigError("Cosmos DB needs at least one container.", hint="Set TAXONOMIST_COSMOS_CONTAINERS.")

    @classmethod
    def from_connection_string(cls, text: str, database: str, containers: tuple[str, ...]) -> Self:
        """Return the access data of a connection string. Raises `ConfigError` without endpoint or key."""
        parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
        if "AccountEndpoint" not in parts or "AccountKey" not in parts:
            raise ConfigError(
                "The connection string of Cosmos DB has no AccountEndpoint or no AccountKey.",
                hint="Copy it whole from the portal: AccountEndpoint=https://…;AccountKey=…;",
            )
        return cls(parts["AccountEndpoint"], parts["AccountKey"], database, containers)


@dataclass(frozen=True)
class Container:
    """An opened container. `key_paths` are the fields of its partition key, as in ("/id",)."""

    name: str
    proxy: ContainerProxy
    key_paths: tuple[str, ...]

    @property
    def by_id(self) -> bool:
        """Whether the id is the partition key, so that a document is found by its id alone."""
        return self.key_paths == ("/id",)


class CosmosConnection:
    """The client of a process, opened at first use. Threads may share it; a forked process opens its own."""

    def __init__(self, access: CosmosAccess, retry_policy: RetryPolicy) -> None:
        self.access = access
        self.retry_policy = retry_policy
        self._loop = EventLoopThread()
        self._stack: AsyncExitStack | None = None
        self._forget()
        after_fork(self._forget)
        _connections.add(self)

    def _forget(self) -> None:
        if self._stack is not None:
            never_finalise(self._stack)
        self._stack = None
        self._client: asyncio.Future[CosmosClient] | None = None
        self._containers: asyncio.Future[tuple[Container, ...]] | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine of `work()` on the client's event loop and return its result."""
        return self._loop.run(work)

    async def client(self) -> CosmosClient:
        """Return the client after it has connected to the account. Raises `StorageError`."""
        if self._client is None or _failed(self._client):
            self._client = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._client)

    async def containers(self) -> tuple[Container, ...]:
        """Return the containers of the settings. Raises `NotFoundError` when one is missing."""
        if self._containers is None or _failed(self._containers):
            self._containers = asyncio.ensure_future(self._open_containers())
        return await asyncio.shield(self._containers)

    async def call(self, work: Callable[[], Awaitable[T]], what: str) -> T:
        """Return the result of `RetryPolicy.call`; an unexpected error response is a `StorageError` too."""
        try:
            return await self.retry_policy.call(work, what)
        except HttpResponseError as error:
            raise StorageError(f"Azure did not {what}: status {status_of(error)}.") from error

    def close(self) -> None:
        """Close the client. The next use opens it again."""
        stack, self._stack = self._stack, None
        if stack is not None:
            self._loop.run(stack.aclose)
        self._loop.close()
        self._client = self._containers = None

    async def _open(self) -> CosmosClient:
        async with AsyncExitStack() as stack:
            credential: str | AsyncTokenCredential | None = self.access.key
            if credential is None:
                credential = await stack.enter_async_context(entra_credential())
            client = CosmosClient(
                self.access.endpoint,
                credential,
                transport=AzureTransport(),
                connection_policy=_without_retries(),
                enable_endpoint_discovery=False,
                retry_connect=0,
                retry_read=0,
            )
            stack.push_async_exit(client)
            await self.call(client.__aenter__, "open the Cosmos DB account")
            self._stack = stack.pop_all()
        return client

    async def _open_containers(self) -> tuple[Container, ...]:
        database = (await self.client()).get_database_client(self.access.database)
        return tuple(
            [await self._open_container(database.get_container_client(name)) for name in self.access.containers]
        )

    async def _open_container(self, proxy: ContainerProxy) -> Container:
        try:
            properties = await self.retry_policy.call(proxy.read, f"open the container {proxy.id}")
        except HttpResponseError as error:
            if status_of(error) != 404:
                raise StorageError(
                    f"Azure did not open the container {proxy.id}: status {status_of(error)}."
                ) from error
            raise NotFoundError(
                f"There is no database '{self.access.database}' with a container '{proxy.id}' in Cosmos DB.",
                hint=INSTALL_HINT,
            ) from error
        return Container(proxy.id, proxy, tuple(properties["partitionKey"]["paths"]))


def _without_retries() -> ConnectionPolicy:
    """Return a connection policy without retries, because `RetryPolicy` retries.

    The SDK treats `retry_throttle_total=0` as not set.
    """
    policy = ConnectionPolicy()
    policy.RetryOptions = type(policy.RetryOptions)(max_retry_attempt_count=0)
    return policy


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


_connections: WeakSet[CosmosConnection] = WeakSet()


@atexit.register
def _close_all() -> None:
    for connection in list(_connections):
        connection.close()
