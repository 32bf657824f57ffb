"""The watch of the promise: its arithmetic by hand, its guarantee, and the thresholds that it leaves in force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taxonomist.taxonomy.monitoring.promise_watch import LIMIT, PromiseWatch


def answers_until_the_floor_rises(watch: PromiseWatch, score: float, *, blind: bool = False) -> int:
    """Return after how many wrong answers in a row the floor rises."""
    return next(count for count in range(1, 1_000) if watch.update(score, right=False, blind=blind))


def test_wrong_answers_in_a_row_by_hand() -> None:
    # At 0.9 the odds of a mistake are 1 to 9. The bets expect 1.5, 2.5 and 4 times these: q = 1/7, 5/23 and 4/13, so a
    # wrong answer multiplies by 10/7, 50/23 and 40/13. R after n wrong answers is f + f² + … + fⁿ.
    factors = (10 / 7, 50 / 23, 40 / 13)
    count = 0
    while sum(sum(factor**power for power in range(1, count + 1)) for factor in factors) / 3 < LIMIT:
        count += 1
    assert count == 13
    assert answers_until_the_floor_rises(PromiseWatch(0.9, 0.95), 1.0) == count


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 0.99])
def test_the_expected_factor_at_the_target_is_one(target: float) -> None:
    watch = PromiseWatch(target, 0.95)
    for wrong, right in zip(*watch._factors, strict=True):
        assert target * right + (1 - target) * wrong == pytest.approx(1)
        assert right < 1 < wrong


def test_a_fall_after_many_right_answers_is_found_as_soon_as_one_at_the_beginning() -> None:
    late = PromiseWatch(0.9, 0.95)
    for _ in range(5_000):
        late.update(1.0, right=True)
    early = PromiseWatch(0.9, 0.95)
    assert answers_until_the_floor_rises(late, 1.0) <= answers_until_the_floor_rises(early, 1.0)


def test_a_precision_at_the_target_seldom_raises_the_floor() -> None:
    random = np.random.default_rng(11)
    alarms = 0
    for _ in range(40):
        watch = PromiseWatch(0.9, 0.95)
        alarms += any(watch.update(1.0, right=right) for right in (random.random(2_500) < 0.9).tolist())
    assert alarms <= 3  # at most 1.25 % each: four or more of 40 would come in 0.2 % of such tests


def test_the_floor_rises_to_the_lowest_threshold_that_holds() -> None:
    watch = PromiseWatch(0.9, 0.6)
    for number in range(600):
        low = number % 2 == 0
        watch.update(0.77 if low else 0.97, right=not low or number % 4 == 0)
    assert watch.floor == 0.8


def test_no_threshold_is_left_where_the_best_suggestions_are_wrong() -> None:
    watch = PromiseWatch(0.9, 0.6)
    answers_until_the_floor_rises(watch, 0.99)
    assert math.isinf(watch.floor)
    assert not watch.update(0.99, right=False)


def test_suggestions_below_the_floor_do_not_count() -> None:
    watch = PromiseWatch(0.9, 0.6)
    answers_until_the_floor_rises(watch, 0.61)
    assert watch.floor == 0.65
    for _ in range(100):
        watch.update(0.64, right=False)
    assert watch.floor == 0.65


def test_blind_answers_show_a_fall_that_accepted_mistakes_hide() -> None:
    found = []
    for draws_blind in (False, True):
        watch = PromiseWatch(0.9, 0.95)
        for number in range(2_000):
            blind = number % 20 == 0
            watch.update(1.0, right=not blind, blind=blind and draws_blind)
        found.append(watch.floor > 0)
    assert found == [False, True]


def test_the_next_version_goes_on_with_the_evidence_until_the_promise_breaks() -> None:
    watch = PromiseWatch(0.9, 0.95)
    for count in range(1, 14):
        watch = watch.following(0.9, 0.6 if count % 2 else 0.95)  # a version with each answer
        assert watch.update(0.97, right=False) == (count == 13)
    again = watch.following(0.9, 0.95)
    assert again.floor == 0
    assert answers_until_the_floor_rises(again, 0.97) == 13


def test_another_target_begins_anew() -> None:
    watch = PromiseWatch(0.9, 0.95)
    for _ in range(12):
        watch.update(0.97, right=False)
    assert answers_until_the_floor_rises(watch.following(0.8, 0.95), 0.97) > 13
    assert answers_until_the_floor_rises(watch.following(0.9, 0.95), 0.97) == 1


@pytest.mark.parametrize("target", [0.0, 1.0, 1.2, math.nan])
def test_a_target_that_is_no_precision_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        PromiseWatch(target, 0.6)
