"""The bounds of an image that is being loaded: when it must be there, and the memory that its file may take.

A thread that loads an image does so in a `with loading(deadline)` block. What reads the bytes asks for the seconds that
are left, and holds the size of the file before it reads it. The memory is given back at the end of the block, when the
file was decoded. Files that are read outside of such a block, to be written to the disk, are not counted.

A process that is to end calls `end_awaited`, so that requests which wait for an image do not delay it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from taxonomist.storage.images.memory_budget import MemoryBudget
from taxonomist.taxonomy.errors import ImageUnavailableError

__all__ = [
    "FILES",
    "SMALL_FILE",
    "end_awaited",
    "has_passed",
    "hold_file",
    "hold_file_in_loop",
    "is_awaited",
    "loading",
    "seconds_left",
    "time_limit",
    "waited_for_memory",
]

_MB = 1024 * 1024
FILES = MemoryBudget(256 * _MB)
"""Of all files that are being loaded, each counted twice, since it is copied while it is read."""
SMALL_FILE = _MB
"""A smaller file is not counted: the threads that load are few enough."""
_WAIT_S = 30.0
_WAIT_IN_LOOP_S = 10.0  # within the time of the whole read
_POLL_S = 0.05


@dataclass
class _Loading:
    deadline: float | None
    held: int = 0
    waited: bool = False


_current: ContextVar[_Loading | None] = ContextVar("loading", default=None)
_end = math.inf  # of every image that has a deadline
_limits: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}  # of the images with a deadline that are being read


@contextmanager
def loading(deadline: float | None = None) -> Iterator[None]:
    """Load an image in the block, until `deadline`, a value of `time.monotonic()`."""
    image = _Loading(deadline)
    token = _current.set(image)
    try:
        yield
    finally:
        _current.reset(token)
        FILES.give_back(image.held)


def seconds_left(longest: float) -> float:
    """Return how long something may take that takes at most `longest` seconds, 0 when the deadline has passed."""
    image = _current.get()
    if image is None or image.deadline is None:
        return longest
    return max(0.0, min(longest, min(image.deadline, _end) - time.monotonic()))


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` when the block takes longer, as `asyncio.timeout` does, or when `end_awaited` says so."""
    async with asyncio.timeout(seconds) as limit:
        if is_awaited():
            _limits[limit] = loop = asyncio.get_running_loop()
            _end_early(limit, loop, _end - time.monotonic())
        try:
            yield
        finally:
            _limits.pop(limit, None)


def end_awaited(deadline: float) -> None:
    """Let no image that a request awaits take longer than until `deadline`, a value of `time.monotonic()`, from now on.

    Images without a deadline are not concerned, and an earlier call counts on.
    """
    global _end
    _end = min(_end, deadline)
    for limit, loop in list(_limits.items()):
        loop.call_soon_threadsafe(_end_early, limit, loop, _end - time.monotonic())


def _end_early(limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    when = loop.time() + seconds
    if limit in _limits and when < (limit.when() or math.inf):
        limit.reschedule(when)


def has_passed(deadline: float | None) -> bool:
    """Return whether a deadline of `loading` has passed, or `end_awaited` ends it."""
    return deadline is not None and time.monotonic() >= min(deadline, _end)


def is_awaited() -> bool:
    """Return whether a request waits for the image: it has a deadline. Jobs have none."""
    image = _current.get()
    return image is not None and image.deadline is not None


def waited_for_memory() -> bool:
    """Return whether a part of the time went by before there was room for the file: it says nothing about the host."""
    image = _current.get()
    return image is not None and image.waited


def hold_file(size: int) -> None:
    """Wait until a file of this size may be read. Raises `ImageUnavailableError` when there is no room in time."""
    if (image := _counted(size)) is not None:
        _keep(image, FILES.take(2 * size, seconds_left(_WAIT_S)), size)


async def hold_file_in_loop(size: int) -> None:
    """Do what `hold_file` does, in an event loop."""
    if (image := _counted(size)) is not None:
        ends = time.monotonic() + _WAIT_IN_LOOP_S
        while (taken := FILES.take_now(2 * size)) is None and time.monotonic() < ends:
            image.waited = True
            await asyncio.sleep(_POLL_S)
        _keep(image, taken, size)


def _counted(size: int) -> _Loading | None:
    """Return the image that is being loaded when a file of this size counts. What it held before is given back."""
    image = _current.get()
    if image is None or size <= SMALL_FILE:
        return None
    FILES.give_back(image.held)
    image.held = 0
    return image


def _keep(image: _Loading, taken: int | None, size: int) -> None:
    if taken is None:
        raise ImageUnavailableError(
            f"The image has {size:,} bytes, and other images take the {FILES.total:,} bytes that files of images may "
            "take at once.",
            hint="Try again when fewer images are read.",
        )
    image.held = taken
