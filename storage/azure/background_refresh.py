"""Refreshes what is known of a remote service from time to time, in a background thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from taxonomist.storage.fork_safety import after_fork
from taxonomist.taxonomy.errors import StorageError

__all__ = ["BackgroundRefresh"]

log = logging.getLogger(__name__)


class BackgroundRefresh:
    """Runs `refresh` at most once every `interval_s` seconds, in a background thread.

    The first caller waits until the refresh has ended, and so does a caller after `stale_s` seconds without one. With
    an `interval_s` of 0 every caller waits. The first failure of a series is logged under the name `subject`; after a
    failure the next refresh is due after the same time.
    """

    def __init__(self, refresh: Callable[[], None], interval_s: float, stale_s: float, subject: str) -> None:
        self._refresh = refresh
        self._interval_s = interval_s
        self._stale_s = stale_s
        self._subject = subject
        self.last_error: StorageError | None = None
        """The error of the last refresh, None when it succeeded."""
        self._refreshed_at: float | None = None
        self._closed = False
        self._make_lock()
        after_fork(self._make_lock)

    def _make_lock(self) -> None:
        self._lock = threading.Lock()

    def refresh_if_due(self) -> None:
        """Refresh if the interval has passed. Raises nothing; the error of the last refresh is `last_error`."""
        now = time.monotonic()
        age = None if self._refreshed_at is None else now - self._refreshed_at
        if age is None or age > self._stale_s or self._interval_s == 0:
            self._run(since=now)
        elif age > self._interval_s and not self._lock.locked():
            threading.Thread(target=self._run, args=(now,), name="refresh", daemon=True).start()

    def refresh_now(self) -> None:
        """Refresh and wait for the end, whether it is due or not. Raises nothing; see `last_error`."""
        self._run(since=time.monotonic())

    def close(self) -> None:
        """Start no further refresh, and wait for one that is running."""
        self._closed = True
        with self._lock:
            pass

    def _run(self, since: float) -> None:
        with self._lock:
            # Another thread may have refreshed while this one waited for the lock.
            if self._closed or (self._refreshed_at is not None and self._refreshed_at >= since):
                return
            began = time.monotonic()
            try:
                self._refresh()
            except StorageError as error:
                if self.last_error is None:
                    log.warning("%s: %s The last known state stays in use.", self._subject, error)
                self.last_error = error
            else:
                if self.last_error is not None:
                    log.warning("%s: reachable again.", self._subject)
                self.last_error = None
            self._refreshed_at = time.monotonic() if self.last_error else began
