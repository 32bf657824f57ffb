"""Shares of a memory budget."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taxonomist.storage.images import loading as images_loading
from taxonomist.storage.images.cache import CachedImages
from taxonomist.storage.images.folder import FolderImages
from taxonomist.storage.images.loading import loading
from taxonomist.storage.images.memory_budget import MemoryBudget


def test_the_shares_never_exceed_the_whole() -> None:
    budget, seen = MemoryBudget(100), []

    def work(number: int) -> None:
        taken = budget.take(10 + number % 60, 30)
        assert taken is not None
        seen.append(budget.taken)
        budget.give_back(taken)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(500)))
    assert max(seen) <= 100
    assert budget.taken == 0


def test_a_large_share_is_not_overtaken() -> None:
    budget, order = MemoryBudget(100), []
    first = budget.take(50, 1)
    started = threading.Event()

    def large() -> None:
        started.set()
        assert budget.take(100, 30) is not None
        order.append("large")
        budget.give_back(100)

    def small() -> None:
        assert budget.take(10, 30) is not None
        order.append("small")
        budget.give_back(10)

    threads = [threading.Thread(target=large)]
    threads[0].start()
    started.wait()
    while not budget._waiting:
        pass
    threads.append(threading.Thread(target=small))
    threads[1].start()
    while len(budget._waiting) < 2:
        pass
    assert first is not None
    budget.give_back(first)
    for thread in threads:
        thread.join()
    assert order == ["large", "small"]


def test_who_gives_up_keeps_nobody_waiting() -> None:
    budget = MemoryBudget(100)
    assert budget.take(60, 1) == 60
    assert budget.take(60, 0.05) is None
    assert budget.take_now(60) is None
    assert budget.take(40, 0.05) == 40
    budget.give_back(100)
    assert budget.take(1000, 0.05) == 100  # what needs more gets the whole


def test_the_next_one_is_let_in_when_a_larger_one_gives_up() -> None:
    budget = MemoryBudget(100)
    assert budget.take(60, 1) == 60
    larger = threading.Thread(target=budget.take, args=(60, 0.3))
    larger.start()
    while not budget._waiting:
        pass
    began = time.monotonic()
    assert budget.take(40, 10) == 40
    assert time.monotonic() - began < 5
    larger.join()


FORK = """
import os
from taxonomist.storage.images.memory_budget import MemoryBudget
budget = MemoryBudget(100)
assert budget.take(60, 1) == 60
budget._changed.acquire()  # as another thread may at that moment
child = os.fork()
if child == 0:
    os._exit(0 if (budget.taken, budget.take(100, 1)) == (0, 100) else 1)
budget._changed.release()
assert os.waitpid(child, 0)[1] == 0
assert budget.taken == 60
"""


def test_a_process_that_was_forked_has_a_budget_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=30)


def test_files_on_this_disk_share_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(10_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)
    (tmp_path / "a.jpg").write_bytes(bytes(3_000_000))
    folder = FolderImages(tmp_path, 4_000_000)
    cache = CachedImages(folder, tmp_path / "cache", 50_000_000)
    assert len(cache.read("a.jpg")) == 3_000_000
    (tmp_path / "a.jpg").unlink()  # it is read from the cache from now on
    (tmp_path / "b.jpg").write_bytes(bytes(2_000_000))
    for images, name, size in ((folder, "b.jpg", 2_000_000), (cache, "a.jpg", 3_000_032)):
        with loading():
            images.read(name)
            assert budget.taken == 2 * size
        assert budget.taken == 0
