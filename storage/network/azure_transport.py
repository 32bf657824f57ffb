"""The HTTP transport of Azure's SDKs, with our certificates and the proxies of the environment."""

from __future__ import annotations

from typing import Any

import aiohttp
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

from taxonomist.storage.network.certificates import certificates
from taxonomist.storage.network.plain_responses import (
    MAX_RESPONSE_BYTES,
    PLAIN,
    compression_of,
    refused_compression,
)
from taxonomist.storage.network.proxies import proxy_for
from taxonomist.taxonomy.errors import StorageError

__all__ = ["AzureProxyError", "AzureTransport"]


class AzureProxyError(ServiceRequestError):
    """A proxy was not reached, or did not let a request through. The message has no password."""


class AzureTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core gives it no type
    """Give it to every client and credential of Azure as `transport=`, with the timeouts that they would give theirs.

    Azure's own transport knows `SSL_CERT_FILE` only, and no networks in `NO_PROXY`. The first request raises
    `ConfigError` when a variable names a certificate or a proxy that cannot be used.
    """

    _was_opened = False

    async def open(self) -> None:
        """Open the session at the first use, in the event loop that will use it."""
        if not self._was_opened:
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=certificates()),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers=PLAIN,
                response_class=_PlainResponse,
            )
            self._was_opened = True
        await super().open()

    async def send(self, request: Any, **config: Any) -> Any:
        """Send a request, through a proxy where the environment says so."""
        proxy = proxy_for(str(request.url))
        if proxy is None:
            return await super().send(request, **config)
        try:
            return await super().send(request, proxy=proxy.url, **config)
        except (ServiceRequestError, ServiceResponseError) as error:
            match error.inner_exception:
                case aiohttp.ClientHttpProxyError(status=status):
                    raise AzureProxyError(f"{proxy} answered {status}") from error
                case aiohttp.ClientProxyConnectionError():
                    raise AzureProxyError(f"{proxy} is not reachable") from error
            raise


class _PlainResponse(aiohttp.ClientResponse):
    """A response that is not compressed, and bounded where it is read as a whole. Others raise `StorageError`."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        await super().start(connection)
        if compression := compression_of(self.headers.get("Content-Encoding")):
            self.close()
            raise StorageError(
                f"{refused_compression(self.url.host or '', compression)}.",
                hint="A blob must be stored without Content-Encoding.",
            )
        return self

    async def read(self) -> bytes:
        if self._body is None:
            if (announced := self.content_length) is not None and announced > MAX_RESPONSE_BYTES:
                raise self._too_large(f"{announced:,} bytes, ")
            self._body = await self._read_bounded()
        return await super().read()

    async def _read_bounded(self) -> bytes:
        """Return the body, which may be chunked, so that its length is not announced."""
        parts: list[bytes] = []
        size = 0
        try:
            async for part in self.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > MAX_RESPONSE_BYTES:
                    raise self._too_large()
        except BaseException:
            self.close()
            raise
        return b"".join(parts)

    def _too_large(self, announced: str = "") -> StorageError:
        self.close()
        return StorageError(f"{self.url.host} answers with {announced}more than {MAX_RESPONSE_BYTES:,} bytes.")
