"""Whether the time of a function is linear in the length of a text; by the ratio of two lengths, not in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 12_500, 100_000  # characters: 8 times as long


def assert_linear(work: Callable[[str], object], part: str, end: str = "") -> None:
    """Fail when the time for a text of many `part`s grows as the square of its length, or faster."""
    short, long = (part * (size // len(part)) + end for size in (SHORT, LONG))
    for _attempt in range(3):
        ratio = (_seconds(work, long) + 0.002) / (_seconds(work, short) + 0.002)
        if ratio < 32:  # 8 when linear, 64 when quadratic
            return
    raise AssertionError(f"{LONG} characters of {part!r} take {ratio:.0f} times as long as {SHORT}.")


def _seconds(work: Callable[[str], object], text: str) -> float:
    times = []  # of the processor: other programs do not count
    for _ in range(3):
        started = time.process_time()
        work(text)
        times.append(time.process_time() - started)
        if times[-1] > 2:
            break
    return min(times)
