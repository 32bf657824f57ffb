"""Parts of a measurement: repeated values, the machine, and the share of it that other processes took."""

from __future__ import annotations

import math
import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy", "scikit-learn", "flask", "gunicorn", "pillow")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


@dataclass(frozen=True)
class Spread:
    """Median and extremes of the values of all rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1] of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def machine() -> dict[str, object]:
    """Return processor, cores, memory, versions and date, which are written into each result."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": model[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions,
        "environment": {name: os.environ.get(name, "unset") for name in THREAD_VARIABLES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@dataclass
class Watch:
    """Seconds between the beginning and the end of a block; `others`: share of all cores that other processes took."""

    seconds: float = 0.0
    others: float = 0.0
    _start: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), repr=False)


@contextmanager
def watched(beside: Sequence[int] = ()) -> Iterator[Watch]:
    """Measure the time of a block and the processor time of other processes in it.

    Children count as ours once they have ended. Stop them within the block, or pass the ids of those that keep running
    in `beside`.
    """
    watch = Watch()
    clock, busy, own = time.monotonic(), _busy(), _own(beside)
    yield watch
    watch.seconds = time.monotonic() - clock
    foreign = (_busy() - busy) - (_own(beside) - own)
    watch.others = max(0.0, foreign / (watch.seconds * (os.cpu_count() or 1)))


def wait_until_idle(limit_s: float, *, below: float = 0.15) -> float:
    """Wait until a share below `below` of the cores is in use over two seconds, at most `limit_s` seconds.

    Return the share measured last.
    """
    until = time.monotonic() + limit_s
    while True:
        clock, busy = time.monotonic(), _busy()
        time.sleep(2 if limit_s else 0.1)
        share = (_busy() - busy) / ((time.monotonic() - clock) * (os.cpu_count() or 1))
        if share < below or time.monotonic() > until:
            return share


def _busy() -> float:
    """Return the busy seconds of all cores since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


def _own(beside: Sequence[int]) -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(map(_used, beside))


def _used(pid: int) -> float:
    """Return the processor time of a running process in seconds."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICK


@dataclass(frozen=True)
class Memory:
    """Megabytes (10^6 bytes) of a process tree: PSS divides shared pages among processes, RSS counts them in each."""

    pss: float
    rss: float
    processes: int


def memory_of(pid: int) -> Memory:
    """Return the memory of a process tree, from /proc."""
    pss = rss = 0
    tree = _tree(pid)
    for process in tree:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
        rss += int(re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return Memory(pss * 1024 / 1e6, rss * 1024 / 1e6, len(tree))


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(found for path in children for child in path.read_text().split() for found in _tree(int(child)))]
