"""The connection to one storage account: its client, and the thread of its event loop."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobServiceClient

from taxonomist.storage.azure.credential import entra_credential
from taxonomist.storage.azure.retry_policy import RetryPolicy, brief
from taxonomist.storage.event_loop_thread import EventLoopThread
from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.network.azure_transport import AzureTransport
from taxonomist.taxonomy.errors import ConfigError, StorageError

T = TypeVar("T")
PART = 4 * 2**20
"""The most bytes of one request, so small that a slow connection transfers them within one attempt."""
_BLOCK = 256 * 2**10  # bytes that are read from the socket at a time, as in the SDK's own transport


class BlobConnection:
    """One client with an event loop in its own thread. Threads may share it; a forked process opens its own.

    Coroutines run on that loop, through `run` or `start`.
    """

    def __init__(
        self,
        url: str,
        retry_policy: RetryPolicy | None = None,
        *,
        account: str | None = None,
        key: str | None = None,
        credential: Callable[[], AsyncTokenCredential] = entra_credential,
    ) -> None:
        """Use the `key` of the account, or Entra ID without a key."""
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self.account = account or parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
        self.key = key
        self.retry_policy = retry_policy or RetryPolicy()
        self._make_credential = credential
        self._loop = EventLoopThread()
        self._forget()
        after_fork(self._forget_parents)
        _accounts.add(self)

    @classmethod
    def from_connection_string(cls, text: str, retry_policy: RetryPolicy | None = None) -> Self:
        """Return the account of a connection string. Raises `ConfigError` without the account's name and key."""
        fields = dict(part.strip().split("=", 1) for part in text.split(";") if "=" in part)
        name, key = fields.get("AccountName"), fields.get("AccountKey")
        if not name or not key:
            raise ConfigError(
                "The connection string of the storage account has no AccountName or no AccountKey.",
                hint="Copy it from the account's access keys, or set TAXONOMIST_BLOB_ACCOUNT_URL to use Entra ID.",
            )
        scheme, suffix = (
            fields.get("DefaultEndpointsProtocol", "https"),
            fields.get("EndpointSuffix", "core.windows.net"),
        )
        return cls(
            fields.get("BlobEndpoint") or f"{scheme}://{name}.blob.{suffix}", retry_policy, account=name, key=key
        )

    def _forget_parents(self) -> None:
        _inherited.append((self._client, self._credential))  # not closed, because that would disturb the parent process
        self._forget()

    def _forget(self) -> None:
        self._client: BlobServiceClient | None = None
        self._credential: AsyncTokenCredential | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine of `work()` and return its result. An `HttpResponseError` is raised as a `StorageError`."""
        try:
            return self._loop.run(work)
        except HttpResponseError as error:
            raise StorageError(
                f"The storage account {self.account} answered with an error: {brief(error)}.",
                hint="Try again later; see docs/how-to/azure/troubleshooting.md.",
            ) from error

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start the coroutine of `work()` and return its future without waiting."""
        return self._loop.start(work)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        client, credential = self._client, self._credential
        self._forget()

        async def close() -> None:
            if client is not None:
                await client.close()
            if credential is not None:
                await credential.close()

        if client is not None or credential is not None:
            self._loop.run(close)
        self._loop.close()

    @property
    def service(self) -> BlobServiceClient:
        """The SDK's client, without its own retries. Only for use in the loop's thread."""
        if self._client is None:
            credential: Any = {"account_name": self.account, "account_key": self.key}
            if self.key is None:
                credential = self._credential = self._make_credential()
            self._client = BlobServiceClient(
                self.url,
                credential=credential,
                transport=AzureTransport(
                    connection_timeout=self.retry_policy.attempt_s,
                    read_timeout=self.retry_policy.attempt_s,
                    connection_data_block_size=_BLOCK,
                ),
                retry_total=0,
                max_single_get_size=PART,
                max_chunk_get_size=PART,
            )
        return self._client


_inherited: list[object] = []
_accounts: WeakSet[BlobConnection] = WeakSet()


@atexit.register
def _close_all() -> None:
    for account in list(_accounts):
        account.close()
