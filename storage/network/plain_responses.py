"""Responses are read as they are sent, and bounded while they are read: a compressed one may be a thousand times larger
than what was sent, and one that was compressed twice a million times."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

__all__ = ["MAX_RESPONSE_BYTES", "PLAIN", "UnusableResponse", "bounded", "compression_of", "refused_compression"]

MAX_RESPONSE_BYTES = 128 * 1024 * 1024
"""Of a response that is read into memory and is no image: a page of Label Studio's tasks with their annotations."""

PLAIN = {"Accept-Encoding": "identity"}
"""The header of every request."""

_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})


class UnusableResponse(httpx.TransportError):
    """A response is compressed, or has more bytes than are read."""


def compression_of(encoding: str | None) -> str | None:
    """Return the value of a header `Content-Encoding` that means compression, None for others."""
    names = [name.strip().lower() for name in (encoding or "").split(",")]
    return ", ".join(names) if _COMPRESSIONS.intersection(names) else None


def bounded(response: httpx.Response, max_bytes: int) -> httpx.Response:
    """Return the response with a stream that ends with `UnusableResponse` after `max_bytes`.

    Raises `UnusableResponse` for a compressed response, before its body is read.
    """
    request = response.request
    if compression := compression_of(response.headers.get("content-encoding")):
        response.close()
        raise UnusableResponse(refused_compression(request.url.host, compression), request=request)
    assert isinstance(response.stream, httpx.SyncByteStream)
    response.stream = _Bounded(response.stream, max_bytes, request)
    return response


def refused_compression(host: str, compression: str) -> str:
    """Return why a compressed response is not read."""
    return f"{host} answers compressed ({compression[:40]}), although it was asked for plain bytes"


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, max_bytes: int, request: httpx.Request) -> None:
        self._stream, self._max_bytes, self._request = stream, max_bytes, request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._max_bytes:
                reason = f"{self._request.url.host} answers with more than {self._max_bytes:,} bytes"
                raise UnusableResponse(reason, request=self._request)
            yield part

    def close(self) -> None:
        self._stream.close()
