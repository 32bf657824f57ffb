"""The aliases in one blob, changed by compare-and-swap."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from azure.core.exceptions import HttpResponseError
from pydantic import TypeAdapter, ValidationError

from taxonomist.storage.azure.background_refresh import BackgroundRefresh
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.retry_policy import RetryPolicy, status_of
from taxonomist.storage.files import write_atomically
from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.formats import check_format
from taxonomist.storage.registry.aliases import NOWHERE, Alias
from taxonomist.taxonomy.errors import ConflictError, DamagedError, StorageError

__all__ = ["BlobAliases"]

log = logging.getLogger(__name__)

_FORMAT = 1
_ATTEMPTS = 30
_MARKS = 50
_STALE_S = 55.0
_TIMEOUT_S = 5.0

Aliases = Mapping[str, Alias]


@dataclass(frozen=True)
class _State:
    """The content of the blob.

    `writes` are the marks of the last changes, by which a writer recognises its own change after a lost response.
    """

    aliases: dict[str, Alias]
    writes: list[str] = field(default_factory=list)
    format: int = _FORMAT


_CONTENT = TypeAdapter(_State)


@dataclass(frozen=True)
class _Known:
    state: _State
    etag: str | None  # None when the blob does not exist


class BlobAliases:
    """The blob `name` in a container, read again at most every `refresh_every_s` seconds.

    The last state is stored in the file `copy`. It serves a start while Azure is not reachable, and the other processes
    of this machine, which see a change by the worker at once.
    """

    def __init__(self, account: BlobAccount, container: str, name: str, copy: Path, refresh_every_s: float) -> None:
        self._account = account
        self._container = container
        self._name = name
        self._copy = copy
        self._known: _Known | None = None
        self._stamp: tuple[int, int] | None = None
        self._refresh = BackgroundRefresh(
            self._read_again, refresh_every_s, max(_STALE_S, refresh_every_s), "The champions in Azure"
        )
        total_s = min(_TIMEOUT_S, account.retry_policy.total_s)
        self._short = replace(
            account.retry_policy, total_s=total_s, attempt_s=min(total_s, account.retry_policy.attempt_s)
        )
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()

    def all(self) -> Aliases:
        """Return the last known aliases. Raises the `StorageError` of the last refresh when none are known."""
        self._refresh.refresh_if_due()
        self._read_copy()
        if self._known is None:
            raise self._refresh.last_error or StorageError("The champions in Azure are not known yet.")
        return self._known.state.aliases

    def close(self) -> None:
        """Stop the background refresh."""
        self._refresh.close()

    def change(self, decide: Callable[[Aliases], Aliases]) -> None:
        """Replace the current aliases by `decide(aliases)`, which is called again after a conflict.

        Raises what `decide` raises, and `StorageError`. The change is made once, even when the response is lost.
        """
        with self._lock:
            self._take(self._account.run(lambda: self._swap(decide, uuid4().hex)))

    async def last(self, name: str) -> int:
        """Return the number of the last version of the name that was removed, 0 when there is none."""
        return (await self._read(self._account.retry_policy)).state.aliases.get(name, NOWHERE).last

    async def _swap(self, decide: Callable[[Aliases], Aliases], mark: str) -> _Known:
        for _ in range(_ATTEMPTS):
            now = await self._read(self._account.retry_policy)
            if mark in now.state.writes:
                return now
            then = dict(decide(now.state.aliases))
            if then == now.state.aliases:
                return now
            state = _State(then, [*now.state.writes, mark][-_MARKS:])
            try:
                etag = await self._account.write(
                    self._container,
                    self._name,
                    _CONTENT.dump_json(state, indent=1),
                    if_absent=now.etag is None,
                    if_match=now.etag,
                )
            except HttpResponseError as error:
                if status_of(error) not in (404, 409, 412):
                    raise
                # Another writer's change, or our own earlier attempt: the next read tells which.
                await asyncio.sleep(random.uniform(0.0, 0.1))  # noqa: S311 - no secret
                continue
            return _Known(state, etag)
        raise ConflictError("Other processes keep changing the champions.", hint="Try again.")

    def _read_again(self) -> None:
        with self._lock:
            self._take(self._account.run(lambda: self._read(self._short, self._known)))

    async def _read(self, retry_policy: RetryPolicy, known: _Known | None = None) -> _Known:
        etag = known.etag if known else None
        try:
            blob = await self._account.read(self._container, self._name, if_none_match=etag, retry_policy=retry_policy)
        except HttpResponseError as error:
            if status_of(error) == 304 and known is not None:
                return known
            if status_of(error) != 404:
                raise
            return _Known(_State({}), None)
        return _Known(self._parsed(blob.data), blob.etag)

    def _parsed(self, data: bytes) -> _State:
        try:
            state = _CONTENT.validate_json(data)
        except ValidationError as error:
            raise DamagedError(
                f"The blob {self._container}/{self._name} cannot be read ({error.errors()[0]['msg']}).",
                hint="Delete it and promote the versions to serve again.",
            ) from error
        check_format(f"The blob {self._container}/{self._name}", state.format, _FORMAT)
        return state

    def _take(self, known: _Known) -> None:
        if known == self._known:
            return
        self._known = known
        with suppress(OSError):  # the blob in Azure is authoritative
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._copy, _CONTENT.dump_json(known.state))

    def _read_copy(self) -> None:
        """Take the state of another process of this machine if it is newer than ours."""
        try:
            stat = self._copy.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) == self._stamp:
                return
            state = _CONTENT.validate_json(self._copy.read_bytes())
        except (OSError, ValidationError):
            return
        self._stamp = stamp
        if state.format > _FORMAT:
            return
        if self._known is None or _changes(state) > _changes(self._known.state):
            self._known = _Known(state, None)


def _changes(state: _State) -> int:
    """Return how often champions have changed up to this state."""
    return sum(alias.changes for alias in state.aliases.values())
