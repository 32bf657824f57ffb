"""The evidence that a former version was right more often."""

from __future__ import annotations

import pytest

from taxonomist.taxonomy.comparison import RISK, evidence_for_former


def test_numbers_that_were_worked_out_by_hand() -> None:
    assert evidence_for_former(0, 0) == pytest.approx(1)
    assert evidence_for_former(1, 0) == pytest.approx(3 / 2)  # 2 · 2 · (the integral of p from 1/2 to 1 = 3/8)
    assert evidence_for_former(0, 1) == pytest.approx(1 / 2)
    assert evidence_for_former(6, 0) < 1 / RISK < evidence_for_former(7, 0)
    assert evidence_for_former(5000, 100) > 1e200


@pytest.mark.parametrize(("former", "served"), [(0, 0), (3, 1), (2, 9), (40, 60)])
def test_it_is_a_fair_game_where_both_are_right_equally_often_and_a_losing_one_where_the_served_is(
    former: int, served: int
) -> None:
    won, lost = evidence_for_former(former + 1, served), evidence_for_former(former, served + 1)
    assert (won + lost) / 2 == pytest.approx(evidence_for_former(former, served))
    assert won > lost  # so that the mean falls with the chance of the former one
