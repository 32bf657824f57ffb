"""What is known of a service that is far away, looked at again now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from taxonomist.storage.forks import after_fork
from taxonomist.taxonomy.errors import StorageError

__all__ = ["Refresher"]

log = logging.getLogger(__name__)


class Refresher:
    """Runs `look` not more often than every `every_s` seconds, beside those who ask.

    Who asks first, or after `stale_s` seconds of silence, waits for the look; with `every_s` of 0 everybody does. A
    look that fails is told in the log once, and the next one is due after the same time.
    """

    def __init__(self, look: Callable[[], None], every_s: float, stale_s: float, what: str) -> None:
        self._look = look
        self._every_s = every_s
        self._stale_s = stale_s
        self._what = what
        self.error: StorageError | None = None
        self._looked_at: float | None = None
        self._closed = False
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()

    def ask(self) -> None:
        """Look if it is time. Never raises what the look raises: see `error`, that of the last look."""
        now = time.monotonic()
        age = None if self._looked_at is None else now - self._looked_at
        if age is None or age > self._stale_s or self._every_s == 0:
            self._run(since=now)
        elif age > self._every_s and not self._lock.locked():
            threading.Thread(target=self._run, args=(now,), name="refresh", daemon=True).start()

    def now(self) -> None:
        """Look, whatever the time."""
        self._run(since=time.monotonic())

    def close(self) -> None:
        """Look no more; a look that has begun is waited for."""
        self._closed = True
        with self._lock:
            pass

    def _run(self, since: float) -> None:
        with self._lock:
            # Somebody else may have looked while we waited.
            if self._closed or (self._looked_at is not None and self._looked_at >= since):
                return
            began = time.monotonic()
            try:
                self._look()
            except StorageError as error:
                if self.error is None:
                    log.warning("%s: %s What is known goes on to be used.", self._what, error)
                self.error = error
            else:
                if self.error is not None:
                    log.warning("%s: found again.", self._what)
                self.error = None
            self._looked_at = time.monotonic() if self.error else began
