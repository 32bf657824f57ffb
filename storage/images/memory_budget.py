"""A budget of memory that the threads of a process share."""

from __future__ import annotations

import threading
from collections import deque

from taxonomist.storage.fork_safety import after_fork

__all__ = ["MemoryBudget"]


class MemoryBudget:
    """`total` bytes. A thread waits for its share in the order of asking, so that a large share is not overtaken for
    ever. What needs more than the whole gets the whole, and is alone then."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self.taken = 0

    def take(self, size: int, timeout_s: float) -> int | None:
        """Return the bytes that were taken, for `give_back`; None when there was no room in time."""
        size, ticket = min(size, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                if not self._changed.wait_for(lambda: self._waiting[0] is ticket and self._fits(size), timeout_s):
                    return None
                self.taken += size
                return size
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def take_now(self, size: int) -> int | None:
        """Return the bytes that were taken, None when there is no room now. For an event loop, which must not wait."""
        size = min(size, self.total)
        with self._changed:
            if not self._fits(size):
                return None
            self.taken += size
            return size

    def give_back(self, size: int) -> None:
        """Let others have the bytes."""
        with self._changed:
            self.taken -= size
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self.taken + size <= self.total
