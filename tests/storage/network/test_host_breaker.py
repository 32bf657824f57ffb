"""Which hosts are not asked for a while."""

from __future__ import annotations

import pytest

from taxonomist.storage.network.host_breaker import HostBreaker

HOST = "images.test"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> HostBreaker:
    return HostBreaker(clock=clock)


def fail(breaker: HostBreaker, times: int = 4) -> None:
    for _ in range(times):
        breaker.failed(HOST, "it refuses connections")


def test_a_host_is_not_asked_after_failures_in_a_row(breaker: HostBreaker) -> None:
    fail(breaker, 3)
    assert breaker.refusal(HOST) is None
    breaker.answered(HOST)
    fail(breaker, 3)
    assert breaker.refusal(HOST) is None
    fail(breaker, 1)
    refusal = breaker.refusal(HOST)
    assert str(refusal).startswith(f"{HOST} is not available")
    assert "it refuses connections" in str(refusal)
    assert "in 5 seconds" in str(refusal)
    assert breaker.refusal("other.test") is None
    assert breaker.unavailable() == [HOST]


def test_one_slow_image_is_one_failure(breaker: HostBreaker) -> None:
    for _ in range(50):
        breaker.failed(HOST, "no whole answer in time", "https://images.test/slow.jpg")
    assert breaker.refusal(HOST) is None


def test_one_request_tries_after_each_pause_and_the_pauses_grow(breaker: HostBreaker, clock: Clock) -> None:
    fail(breaker)
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        clock.now += pause - 0.5
        assert breaker.refusal(HOST) is not None
        clock.now += 0.6
        assert breaker.refusal(HOST) is None  # the one that tries
        assert "just now" in str(breaker.refusal(HOST))
        fail(breaker, 1)
    clock.now += 301
    assert breaker.refusal(HOST) is None
    breaker.answered(HOST)
    assert breaker.refusal(HOST) is None
    assert breaker.unavailable() == []


def test_a_try_that_says_nothing_lets_another_try(breaker: HostBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 6
    assert breaker.refusal(HOST) is None
    breaker.left(HOST)
    assert breaker.refusal(HOST) is None


def test_requests_that_were_under_way_do_not_lengthen_the_pause(breaker: HostBreaker, clock: Clock) -> None:
    fail(breaker, 30)
    clock.now += 5.1
    assert breaker.refusal(HOST) is None


def test_the_table_of_hosts_is_bounded(clock: Clock) -> None:
    breaker = HostBreaker(clock=clock, most_hosts=10)
    for number in range(1000):
        for _ in range(4):
            breaker.failed(f"host{number}", "no")
    assert breaker.unavailable() == sorted(f"host{number}" for number in range(990, 1000))
    for number in range(1000):
        breaker.answered(f"host{number}")
    assert not breaker._hosts
