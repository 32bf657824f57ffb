"""Work that several threads of a process ask for at the same time is done once; the others wait for its result."""

import threading
from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class UnderWay(Generic[Key, Result]):
    """The keys that are being worked on. The thread that claims a key must finish it, also after an error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[Key, Future[Result | None]] = {}

    def claim(self, keys: Iterable[Key]) -> tuple[list[Key], dict[Key, Future[Result | None]]]:
        """Return the keys that no thread works on, which are the caller's now, and a future for each other key.

        Finish the own keys before waiting for others, so that no two threads wait for each other.
        """
        own: list[Key] = []
        others: dict[Key, Future[Result | None]] = {}
        with self._lock:
            for key in keys:
                if key in self._futures:
                    others[key] = self._futures[key]
                else:
                    self._futures[key] = Future()
                    own.append(key)
        return own, others

    def finish(self, key: Key, result: Result | None = None) -> None:
        """Give the result to those who wait; None means that there is none, and that they may try themselves.

        Does nothing for a key that is finished already.
        """
        with self._lock:
            future = self._futures.pop(key, None)
        if future is not None:
            future.set_result(result)
