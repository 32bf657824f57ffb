"""The queue's length."""

from __future__ import annotations

from taxonomist.training.pretraining.recipe import PRESETS, Recipe


def test_the_queue_is_a_power_of_two_below_half_the_images() -> None:
    assert [Recipe().queue_for(count) for count in (64, 65, 1000, 15_000, 10**6)] == [16, 16, 256, 4096, 65_536]
    assert PRESETS["thesis"].queue_for(15_000) == 2048
