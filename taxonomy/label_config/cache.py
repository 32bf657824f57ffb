"""Labelling configs that were parsed: each request of Label Studio carries the whole text, so it is parsed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from taxonomist.taxonomy.errors import ConfigError

Config = TypeVar("Config")


@dataclass(frozen=True)
class _Kept(Generic[Config]):
    """What came of a text: the config, or the error; and its size."""

    config: Config | None
    error: ConfigError | None
    size: int


class ConfigCache(Generic[Config]):
    """At most `entries` results, whose sizes have at most the sum `total`. The least recently used ones go.

    One config is made at a time, so that the memory that parsing takes for a moment is not multiplied by the threads. A
    config that is known is returned meanwhile.
    """

    def __init__(self, entries: int, total: int) -> None:
        self._entries, self._total = entries, total
        self._kept: dict[Hashable, _Kept[Config]] = {}  # the most recently used last
        self._lock = threading.Lock()
        self._making = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], tuple[Config, int]]) -> Config:
        """Return what `make` returned for this key, a config and its size. Raises the `ConfigError` that it raised."""
        kept = self._find(key)
        if kept is None:
            with self._making:
                kept = self._find(key) or self._add(key, make)
        if kept.error is not None:
            raise type(kept.error)(kept.error.args[0], hint=kept.error.hint)
        assert kept.config is not None
        return kept.config

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    @property
    def size(self) -> int:
        """The sum of the sizes."""
        with self._lock:
            return sum(kept.size for kept in self._kept.values())

    def _find(self, key: Hashable) -> _Kept[Config] | None:
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is not None:
                self._kept[key] = kept
            return kept

    def _add(self, key: Hashable, make: Callable[[], tuple[Config, int]]) -> _Kept[Config]:
        try:
            config, size = make()
            kept = _Kept[Config](config, None, size)
        except ConfigError as error:
            kept = _Kept[Config](None, type(error)(error.args[0], hint=error.hint), 1)  # without its traceback
        with self._lock:
            self._kept[key] = kept
            total = sum(found.size for found in self._kept.values())
            while len(self._kept) > 1 and (len(self._kept) > self._entries or total > self._total):
                total -= self._kept.pop(next(iter(self._kept))).size
        return kept
