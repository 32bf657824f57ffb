"""Counts over many images, which take long: kept for some seconds, then counted again in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from taxonomist.storage.fork_safety import after_fork

log = logging.getLogger(__name__)
Value = TypeVar("Value")

MANY = 10_000  # images of a project; with fewer, every count is made anew
FRESH_S = 5.0
STALE_S = 600.0  # a count that was not asked for in this time is made anew
_MOST_COUNTING = 0.05  # share of the time in which a count is made again
_MOST_KEPT = 1000


@dataclass(frozen=True)
class _Kept:
    value: Any
    fresh_until: float
    until: float


class KeptCounts:
    """The counts of a process. One object for all its threads. `always`: not only those of many images are kept."""

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._counting: set[Hashable] = set()

    def get(self, key: Hashable, images: int, count: Callable[[], Value]) -> Value:
        """Return what `count` returns; for a project with `MANY` images or more, what it returned a short time ago.

        `key` names the count and what it is about. A value that is not fresh any more is returned once more, while a
        thread counts again. Raises what `count` raises.
        """
        if images < MANY and not self._always:
            return count()
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or now >= kept.until:
                kept = None
            elif now >= kept.fresh_until and key not in self._counting:
                self._counting.add(key)
                threading.Thread(target=self._count_again, args=(key, count), name="counts", daemon=True).start()
        if kept is None:
            return self._count(key, count)
        value: Value = kept.value
        return value

    def _count(self, key: Hashable, count: Callable[[], Value]) -> Value:
        began = time.monotonic()
        value = count()
        now = time.monotonic()
        fresh_until = now + max(FRESH_S, (now - began) / _MOST_COUNTING)
        with self._lock:
            self._kept[key] = _Kept(value, fresh_until, now + STALE_S)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return value

    def _count_again(self, key: Hashable, count: Callable[[], object]) -> None:
        try:
            self._count(key, count)
        except Exception:
            log.exception("%s could not be counted again", key)
        finally:
            with self._lock:
                self._counting.discard(key)
