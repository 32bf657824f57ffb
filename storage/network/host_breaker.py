"""Hosts that do not answer: after some failures in a row a host is not asked for a while, and requests fail at once.

Only what says something about the host counts: connections that fail, and different addresses that are not answered in
time. Any answer, also 404, means that the host is there. After a pause one request may try; the pauses grow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

__all__ = ["HOSTS", "HostBreaker", "Refusal"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a host is not asked now, in how many seconds it is, and how long the whole pause is."""

    reason: str
    wait_s: float
    pause_s: float

    def __str__(self) -> str:
        return self.reason


@dataclass
class _Host:
    """The failures since the last answer, by what makes them different. `asked_at` is when it may be asked again."""

    failures: set[Hashable] = field(default_factory=set)
    reason: str = ""
    pause_s: float = 0.0
    asked_at: float = 0.0
    is_probed: bool = False

    @property
    def is_open(self) -> bool:
        return self.pause_s > 0


class HostBreaker:
    """Remembers at most `most_hosts` hosts that failed last. Threads may share it."""

    def __init__(
        self,
        *,
        most_failures: int = 4,
        first_pause_s: float = 5.0,
        longest_pause_s: float = 300.0,
        most_hosts: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_failures = most_failures
        self._first_pause_s, self._longest_pause_s = first_pause_s, longest_pause_s
        self._most_hosts, self._clock = most_hosts, clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def refusal(self, host: str) -> Refusal | None:
        """Return why the host is not asked now, None when it may be asked; then say what came of it.

        Call `answered`, `failed`, or `left` when nothing is known.
        """
        with self._lock:
            found = self._hosts.get(host)
            if found is None or not found.is_open:
                return None
            wait = found.asked_at - self._clock()
            if wait <= 0 and not found.is_probed:
                found.is_probed = True
                return None
            again = f"in {max(1, round(wait))} seconds" if wait > 0 else "just now"
            reason = f"it did not answer several times ({found.reason}) and is asked again {again}"
            return Refusal(f"{host} is not available: {reason}", max(0.2, wait), found.pause_s)

    def answered(self, host: str) -> None:
        """The host is there."""
        with self._lock:
            found = self._hosts.pop(host, None)
        if found is not None and found.is_open:
            log.warning("%s answers again", host)

    def failed(self, host: str, reason: str, different: Hashable | None = None) -> None:
        """The host could not be reached, or did not answer in time. Failures with equal `different` count once."""
        with self._lock:
            found = self._hosts.pop(host, None) or _Host()
            self._hosts[host] = found  # the last one
            if len(self._hosts) > self._most_hosts:
                del self._hosts[next(iter(self._hosts))]
            was_probed, found.is_probed = found.is_probed, False
            found.reason = reason
            if len(found.failures) < self._most_failures:
                found.failures.add(object() if different is None else different)
            if found.is_open and not was_probed:
                return  # it was asked before
            if len(found.failures) < self._most_failures:
                return
            found.pause_s = min(2 * found.pause_s or self._first_pause_s, self._longest_pause_s)
            found.asked_at = self._clock() + found.pause_s
        log.warning("%s is not asked for %g seconds: %s", host, found.pause_s, reason)

    def left(self, host: str) -> None:
        """Nothing is known: the request ended before it said something about the host."""
        with self._lock:
            if (found := self._hosts.get(host)) is not None:
                found.is_probed = False

    def unavailable(self) -> list[str]:
        """Return the hosts that are not asked."""
        with self._lock:
            return sorted(host for host, found in self._hosts.items() if found.is_open)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._hosts.clear()


HOSTS = HostBreaker()
"""The hosts of this process."""
