"""When suggestions were right often enough: numbers by hand."""

from __future__ import annotations

import math

import pytest

from taxonomist.taxonomy.calibration.precision_test import PrecisionTest, Promise, promise_for


@pytest.mark.parametrize(("promise", "enough"), [("sure", 24), ("average", 9)])
def test_the_suggestions_that_a_target_of_nine_in_ten_needs(promise: Promise, enough: int) -> None:
    test = PrecisionTest(promise, 0.9)
    assert math.ceil(test.needed) == enough
    assert test.passes(1.0, enough)
    assert not test.passes(1.0, enough - 1)


def test_the_batch_that_people_see_varies_as_the_calibration_does() -> None:
    test = PrecisionTest("sure", 0.8)  # batches of 200
    assert not test.passes(0.83, 10_000)  # the bound of 0.83 in 196 is 0.789
    assert test.passes(0.85, 10_000)  # that of 0.85 is 0.811
    assert not test.passes(0.85, 150)  # and in 86 it is 0.789


def test_on_average_one_more_suggestion_may_be_wrong() -> None:
    test = PrecisionTest("average", 0.9)
    assert test.passes(18 / 19, 19)  # with the next one, 2 of 20 are wrong
    assert not test.passes(17 / 18, 18)
    assert test.passes(1 - 9 / 99, 99)  # 10 of 100
    assert not test.passes(1 - 10 / 99, 99)


@pytest.mark.parametrize("promise", ["sure", "average"])
def test_how_many_suggestions_a_precision_takes(promise: Promise) -> None:
    test = PrecisionTest(promise, 0.8)
    for precision in (0.85, 0.95, 1.0):
        count = test.count_for(precision, 1000)
        assert test.passes(precision, count)
        assert not test.passes(precision, count / 1.2)
        assert math.isinf(test.count_for(precision, count / 1.2))
    assert math.isinf(test.count_for(0.8, 1000))


def test_the_promise_that_a_number_of_labels_has_by_default() -> None:
    assert [promise_for(labels, 0.9) for labels in (0, 1999, 2000)] == ["average", "average", "sure"]
    assert [promise_for(labels, 0.8) for labels in (999, 1000)] == ["average", "sure"]
