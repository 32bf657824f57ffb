"""Whether a backbone replaces another one, by the votes of the projects."""

from __future__ import annotations

import pytest

from taxonomist.training.heads.promotion.decision import WORST_LOSS, Vote, decide_backbone


def votes(*scores: tuple[float, float]) -> list[Vote]:
    return [Vote(str(number), new, old, 50) for number, (new, old) in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "promoted", "said"),
    [
        ([(0.71, 0.70)], True, "It is better: macro-F1 0.710 against 0.700, on 50 test images of project 1"),
        ([(0.70, 0.70)], False, "It is not better"),
        ([(0.69, 0.70)], False, "It is not better"),
        ([(0.80, 0.70), (0.69, 0.70)], True, "macro-F1 0.745 against 0.700, on 100 test images of 2 projects"),
        ([(0.80, 0.70), (0.60, 0.70)], False, "Project 2 would lose: macro-F1 0.600 against 0.700"),
        ([(0.95, 0.50), (0.70, 0.70 + 1.01 * WORST_LOSS)], False, "Project 2 would lose"),
        ([(0.95, 0.50), (0.70, 0.70 + 0.99 * WORST_LOSS)], True, "It is better"),
        ([(0.69, 0.70), (0.71, 0.70)], False, "It is not better"),
        ([], False, "No project has both a model and test images"),
    ],
)
def test_the_mean_decides_and_no_project_may_lose_much(
    scores: list[tuple[float, float]], promoted: bool, said: str
) -> None:
    decision = decide_backbone(votes(*scores))
    assert decision.promote is promoted
    assert said in decision.reason
