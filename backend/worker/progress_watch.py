"""Says whether the threads of a worker make progress. A thread that only lives makes none."""

from __future__ import annotations

import threading
import time

IDLE_S = 900.0  # without a step while the process computes nothing; an answer of Label Studio may take 600 s
BUSY_S = 3600.0  # without a step although it computes
_COMPUTING = 0.1  # of one core; the pulse of an idle worker takes a few percent
_SAMPLE_S = 10.0


class ProgressWatch:
    """Knows when each piece of work made its last step, by the monotonic clock and the processor time.

    One thread calls `moved` and `ended` for its own work, another one asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._sample = (time.monotonic(), time.process_time())
        self._computed = time.monotonic()

    def moved(self, work: str) -> None:
        """Note a step of this work, which goes on."""
        with self._lock:
            self._moved[work] = time.monotonic()
            self._began.setdefault(work, self._moved[work])

    def ended(self, work: str) -> None:
        """Note that this work has ended."""
        with self._lock:
            self._moved.pop(work, None)
            self._began.pop(work, None)

    def runs_for(self, work: str) -> float:
        """Return for how many seconds the work has run, 0 when it does not."""
        with self._lock:
            began = self._began.get(work)
        return 0.0 if began is None else time.monotonic() - began

    def idle_s(self, work: str) -> float:
        """Return for how long the work has made no step, while the process computed nothing; 0 when it does not run."""
        with self._lock:
            moved = self._moved.get(work)
        self._look_at_processor()
        return 0.0 if moved is None else time.monotonic() - max(moved, self._computed)

    def stalled(self) -> str | None:
        """Return the work that makes no progress any more, None when there is none."""
        with self._lock:
            moved = dict(self._moved)
        now = time.monotonic()
        for work, at in moved.items():
            if now - at >= BUSY_S or self.idle_s(work) >= IDLE_S:
                return work
        return None

    def _look_at_processor(self) -> None:
        (at, used), now, uses = self._sample, time.monotonic(), time.process_time()
        if now - at >= _SAMPLE_S:
            if uses - used >= _COMPUTING * (now - at):
                self._computed = now
            self._sample = (now, uses)
