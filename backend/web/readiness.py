"""Whether the background work is done: what /readyz says to an orchestrator."""

from __future__ import annotations

import threading
import time

from taxonomist.backend.services import Services
from taxonomist.backend.state import heartbeat

IDLE_S = 60.0  # work that waits so long while no worker shows progress
OLD_EVENT_S = 300.0  # an event that no worker reads, although there is one


class Readiness:
    """Remembers since when work waits without a worker, by the monotonic clock."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._since: float | None = None

    def worker(self) -> str:
        """Return whether the worker was seen a short while ago."""
        age = heartbeat.age(self._services.settings.home)
        return "alive" if age is not None and age < heartbeat.FRESH_S else "not seen"

    def problem(self) -> str | None:
        """Return why no work is done although there is some, None when all is well. Raises `StorageError`."""
        event = self._services.journal.waits_since()
        asked = [job.asked_at for job in self._services.jobs.waiting()]
        waits = max((time.time() - at for at in (*asked, *([] if event is None else [event]))), default=None)
        event_waits = 0.0 if event is None else time.time() - event
        is_idle = waits is not None and self.worker() != "alive"
        with self._lock:
            self._since = (self._since or time.monotonic()) if is_idle else None
            idle = 0.0 if self._since is None else time.monotonic() - self._since
        if is_idle and waits is not None and max(waits, idle) >= IDLE_S:
            return f"Work has waited for {max(waits, idle):.0f} s, and no worker makes progress."
        if event_waits >= OLD_EVENT_S:
            return f"An event has waited for {event_waits:.0f} s to be read by the worker."
        return None
