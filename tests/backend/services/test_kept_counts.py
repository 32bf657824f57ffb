"""Counts of many images are kept; those of few are made anew each time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from taxonomist.backend.services.kept_counts import FRESH_S, MANY, STALE_S, KeptCounts
from taxonomist.taxonomy.errors import StorageError


class Clock:
    """The time of `kept_counts`, which stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("taxonomist.backend.services.kept_counts.time", clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def wait_for_counting() -> None:
    for thread in threading.enumerate():
        if thread.name == "counts":
            thread.join()


def test_few_images_are_counted_each_time() -> None:
    kept, values = KeptCounts(), iter([1, 2])
    assert [kept.get("key", MANY - 1, lambda: next(values)) for _ in range(2)] == [1, 2]


def test_many_images_are_counted_again_in_the_background(clock: Clock) -> None:
    kept, values, threads = KeptCounts(), iter([1, 2, 3]), list[str]()

    def count() -> int:
        threads.append(threading.current_thread().name)
        return next(values)

    assert [kept.get("key", MANY, count) for _ in range(3)] == [1, 1, 1]
    assert kept.get("another", MANY, lambda: 7) == 7
    clock.now += FRESH_S
    assert kept.get("key", MANY, count) == 1
    wait_for_counting()
    assert kept.get("key", MANY, count) == 2
    assert threads[1:] == ["counts"]
    clock.now += STALE_S
    assert kept.get("key", MANY, count) == 3  # not looked at for so long that the old one would mislead
    assert threads[2] == threading.current_thread().name


def test_one_thread_counts_at_a_time_and_a_slow_count_is_made_less_often(clock: Clock) -> None:
    kept, may_end, calls = KeptCounts(), threading.Event(), list[float]()

    def count() -> int:
        calls.append(clock.now)
        if len(calls) == 1:
            clock.now += 2.0
        else:
            assert may_end.wait(60)
        return len(calls)

    assert kept.get("key", MANY, count) == 1
    clock.now += 39.0  # after 2 seconds of counting, it takes 40 seconds until it is counted again
    assert kept.get("key", MANY, count) == len(calls) == 1
    clock.now += 1.0
    assert [kept.get("key", MANY, count) for _ in range(5)] == [1] * 5
    may_end.set()
    wait_for_counting()
    assert len(calls) == 2


def test_a_count_that_fails_leaves_the_one_before(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptCounts()

    def fail() -> int:
        raise StorageError("The file cannot be read.")

    with pytest.raises(StorageError):
        kept.get("key", MANY, fail)
    assert kept.get("key", MANY, lambda: 1) == 1
    clock.now += FRESH_S
    assert kept.get("key", MANY, fail) == 1
    wait_for_counting()
    assert "could not be counted again" in caplog.text
    assert kept.get("key", MANY, lambda: 1) == 1
