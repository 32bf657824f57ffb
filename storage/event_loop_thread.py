"""An asyncio event loop in its own thread, for synchronous code: deadlines hold whatever the server does."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from taxonomist.storage.fork_safety import after_fork

__all__ = ["EventLoopThread"]

T = TypeVar("T")


class EventLoopThread:
    """Starts with the first `run` and stops with `close`. A forked child process starts its own thread."""

    def __init__(self) -> None:
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine of `work()` on the loop, wait, and return its result or raise its error."""
        return self.start(work).result()

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start the coroutine of `work()` on the loop and return its future without waiting."""
        return asyncio.run_coroutine_threadsafe(work(), self._running())

    def close(self) -> None:
        """Stop the loop and its thread."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        # This runs in the loop's thread: the caller's thread may run another loop, and a thread runs one at a time.
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
                self._thread.start()
            return self._loop
