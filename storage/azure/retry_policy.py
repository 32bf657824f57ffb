"""Calls to a service that may be busy, slow or gone: repeated while that can help, ended in a bounded time."""

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

from taxonomist.taxonomy.errors import StorageError

__all__ = ["RetryPolicy", "brief", "status_of"]

T = TypeVar("T")
_PASSING = {
    408,
    410,
    429,
    449,
    500,
    502,
    503,
    504,
}  # 410 and 449 are Cosmos DB's: a partition moves, a write is repeated
_REFUSED = {401, 403}


@dataclass(frozen=True)
class RetryPolicy:
    """How long one call may take with all its repetitions, and how long the pauses between these are, in seconds.

    The SDKs' own retries are off where this is used: they know no limit of time, and that of blobs ignores 429.
    """

    total_s: float = 60.0
    attempt_s: float = 30.0
    first_pause_s: float = 0.25
    longest_pause_s: float = 10.0

    async def call(self, work: Callable[[], Awaitable[T]], what: str) -> T:
        """What `work` returns. It is begun anew after an error that may pass, so it must be safe to repeat.

        `what` names the work in errors, as in "read the document a.jpg". Raises `StorageError` when the time is over,
        or access is refused; every other answer of the service comes as the SDK's own `HttpResponseError`.
        """
        pause, last = self.first_pause_s, "no answer"
        try:
            async with asyncio.timeout(self.total_s) as whole:
                while True:
                    try:
                        async with asyncio.timeout(self.attempt_s):
                            return await work()
                    except (AzureError, TimeoutError, OSError) as error:
                        if whole.expired():
                            raise
                        if not _may_pass(error):
                            raise _refusal(error, what) from error
                        last = brief(error)
                        wait = _asked_for(error) or pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                    await asyncio.sleep(wait)
                    pause = min(pause * 2, self.longest_pause_s)
        except TimeoutError as error:
            raise StorageError(
                f"Azure did not {what} within {self.total_s:g} seconds ({last}).",
                hint="Is the service reachable from here? Try again later.",
            ) from error


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer of Azure, None where there was none."""
    return error.status_code if isinstance(error, HttpResponseError) else None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (ServiceRequestError, ServiceResponseError, IncompleteReadError, TimeoutError, OSError)):
        return True
    # A body that was cut comes as an HttpResponseError with the status of its good beginning.
    return status_of(error) in _PASSING | {200, 206, None}


def _asked_for(error: BaseException) -> float | None:
    """The pause that the service asks for, in seconds."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
    for name, unit in (("x-ms-retry-after-ms", 1000.0), ("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name])) / unit
        except (KeyError, ValueError, TypeError):
            continue
    return None


def _refusal(error: BaseException, what: str) -> BaseException:
    if status_of(error) in _REFUSED:
        return StorageError(
            f"Azure did not {what}: access is refused ({brief(error)}).",
            hint="Check the key and the rights; see docs/how-to/azure/troubleshooting.md.",
        )
    return error


def brief(error: BaseException) -> str:
    """The kind of an error and no more: the SDK's texts carry addresses with signatures."""
    status = status_of(error)
    code = getattr(error, "error_code", None) or getattr(error, "sub_status", None)
    if status is not None:
        return f"status {status}" + (f" {getattr(code, 'value', code)}" if code else "")
    return type(error).__name__
