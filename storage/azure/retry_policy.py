"""Calls to Azure: retried while that can help, and ended within a time limit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)

from taxonomist.storage.network.azure_transport import AzureProxyError
from taxonomist.storage.network.certificates import untrusted
from taxonomist.taxonomy.errors import StorageError

__all__ = ["RetryPolicy", "brief", "status_of"]

T = TypeVar("T")
# 410 and 449 are Cosmos DB's: a partition moves, a write must be repeated.
_TRANSIENT_STATUSES = {408, 410, 429, 449, 500, 502, 503, 504}
_REFUSED = {401, 403}


@dataclass(frozen=True)
class RetryPolicy:
    """The time limits of a call and the pauses between its attempts, in seconds.

    `total_s` limits the call with all attempts and pauses, `attempt_s` one attempt. The pauses double from
    `first_pause_s` to `longest_pause_s`, with jitter, unless the service asks for a certain pause. The SDKs' own
    retries are switched off: they have no time limit, and those of the blob client ignore status 429.
    """

    total_s: float = 60.0
    attempt_s: float = 30.0
    first_pause_s: float = 0.25
    longest_pause_s: float = 10.0

    async def call(self, work: Callable[[], Awaitable[T]], what: str) -> T:
        """Return the result of `work`. After a transient error it is called again, so it must be safe to repeat.

        `what` names the work in errors, as in "read the document a.jpg". Raises `StorageError` when the time is over or
        access is refused; every other error response is raised as the SDK's own `HttpResponseError`.
        """
        pause, last = self.first_pause_s, "no answer"
        try:
            async with asyncio.timeout(self.total_s) as total:
                while True:
                    try:
                        async with asyncio.timeout(self.attempt_s):
                            return await work()
                    except (AzureError, TimeoutError, OSError) as error:
                        if total.expired():
                            raise
                        if not _is_transient(error):
                            raise _refusal(error, what) from error
                        last = brief(error)
                        wait = _requested_pause(error) or pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                    await asyncio.sleep(wait)
                    pause = min(pause * 2, self.longest_pause_s)
        except TimeoutError as error:
            raise StorageError(
                f"Azure did not {what} within {self.total_s:g} seconds ({last}).",
                hint="Check that the service is reachable from this machine, or try again later.",
            ) from error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error response of Azure, None for other errors."""
    return error.status_code if isinstance(error, HttpResponseError) else None


def _is_transient(error: BaseException) -> bool:
    if untrusted(error):
        return False
    if isinstance(error, (ServiceRequestError, ServiceResponseError, IncompleteReadError, TimeoutError, OSError)):
        return True
    # A response that is cut off is an HttpResponseError with the status of its beginning, 200 or 206.
    return status_of(error) in _TRANSIENT_STATUSES | {200, 206, None}


def _requested_pause(error: BaseException) -> float | None:
    """Return the pause that the service asks for, in seconds."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
    for name, unit in (("x-ms-retry-after-ms", 1000.0), ("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name])) / unit
        except (KeyError, ValueError, TypeError):
            continue
    return None


def _refusal(error: BaseException, what: str) -> BaseException:
    if refused := untrusted(error):
        return StorageError(f"Azure did not {what}: {refused[0]}.", hint=refused[1])
    if status_of(error) in _REFUSED:
        return StorageError(
            f"Azure did not {what}: access is refused ({brief(error)}).",
            hint="Check the key and the role assignments; see docs/how-to/azure/troubleshooting.md.",
        )
    return error


def brief(error: BaseException) -> str:
    """Return the kind of an error only, because the SDK's messages contain addresses with signatures."""
    status = status_of(error)
    code = getattr(error, "error_code", None) or getattr(error, "sub_status", None)
    if status is not None:
        return f"status {status}" + (f" {getattr(code, 'value', code)}" if code else "")
    return str(error) if isinstance(error, AzureProxyError) else type(error).__name__
