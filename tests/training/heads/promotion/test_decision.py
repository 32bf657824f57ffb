"""Whether a version replaces the champion, and whether a backbone replaces another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taxonomist.taxonomy.comparison import PairedComparison
from taxonomist.training.heads.promotion.decision import (
    WORST_LOSS,
    Vote,
    decide_backbone,
    decide_promotion,
    left_to_a_person,
)


def figures(t_f1: float, t_loss: float, labels: int = 20) -> PairedComparison:
    return PairedComparison(labels, 7, 0.61, 0.6, 1.25, 1.5, t_f1, t_loss)


@pytest.mark.parametrize(
    ("t_f1", "t_loss", "promoted", "verdict"),
    [
        (1.0, 1.0, True, "not worse"),
        (0, 0, True, "not worse"),
        (-1.0, 1.5, True, "not worse"),
        (0.8, -1.5, True, "not clearly worse"),
        (0.7, -1.5, False, "worse"),
    ],
)
def test_f1_and_log_loss_decide_together(t_f1: float, t_loss: float, promoted: bool, verdict: str) -> None:
    compared = figures(t_f1, t_loss)
    decision = decide_promotion(compared, champion_version="v3")
    assert decision.promote is promoted
    assert decision.figures == compared
    assert decision.reason == (
        f"It is {verdict}: hierarchical F1 0.610 against 0.600 of v3 (t = {t_f1:+.1f}), "
        f"log-loss 1.25 against 1.50 (t = {t_loss:+.1f}), on 20 test images of 7 products."
    )
    waiting = left_to_a_person(decision)
    assert (waiting.promote, waiting.figures) == (False, compared)


@pytest.mark.parametrize(
    ("learned", "promoted", "verdict", "limit"),
    [
        ((440, 400), True, "It is not worse", "-1.7"),
        ((400, 400), True, "It is not worse", "-0.7"),
        ((390, 400), False, "It is not clearly better, though it has fewer images", "+0.3"),
    ],
)
def test_the_reason_says_what_the_numbers_of_images_ask_for(
    learned: tuple[int, int], promoted: bool, verdict: str, limit: str
) -> None:
    compared = replace(figures(0.5, -0.25), learned=learned[0], champion_learned=learned[1])
    decision = decide_promotion(compared, champion_version="v3")
    assert decision.promote is promoted
    assert decision.reason.startswith(f"{verdict}: hierarchical F1")
    assert (
        f", {learned[0]} images to learn from against {learned[1]} (both t together have to reach {limit}), on 20 test"
    ) in decision.reason


def test_without_a_comparison_only_a_first_version_is_served() -> None:
    assert decide_promotion(None).promote
    assert not decide_promotion(None, champion_version="v3").promote
    assert not decide_promotion(figures(0, 0, labels=0), champion_version="v3").promote


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
