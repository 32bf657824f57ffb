"""Simulated annotators, judged by the product's own rule of agreement."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from taxonomist.backend.demo.annotators import SHARES, Outcome, answers, plan
from taxonomist.taxonomy.agreement import AgreementPolicy, decide
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.paths import TaxonomyPath

TRUTH = ("A", "B", "C")
TAXONOMY = [TRUTH, ("A", "B", "D"), ("E", "F", "G"), ("H", "I"), ("J",)]


def annotation(annotator: int, paths: tuple[TaxonomyPath, ...]) -> Annotation:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Annotation(
        id=str(annotator),
        task_id="1",
        annotator=str(annotator),
        created_at=now,
        updated_at=now,
        labels={"c": paths},
        unknown=(),
        skipped=not paths,
        ground_truth=False,
        reviewed=False,
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("outcome", "accepted"),
    [
        (Outcome.AGREE, {TRUTH}),
        (Outcome.TWO_TO_ONE, {TRUTH}),
        (Outcome.ALL_DIFFER, set()),
        (Outcome.ONE_STOPS_EARLY, {TRUTH}),
        (Outcome.ONE_SKIPS, {TRUTH}),
    ],
)
def test_what_becomes_of_an_outcome(outcome: Outcome, accepted: set[TaxonomyPath], seed: int) -> None:
    given = answers(outcome, TRUTH, TAXONOMY, random.Random(seed))
    verdict = decide([annotation(i, paths) for i, paths in enumerate(given)], "c", AgreementPolicy())
    assert set(verdict.accepted) == accepted


def test_several_paths_are_all_accepted() -> None:
    given = answers(Outcome.SEVERAL_PATHS, TRUTH, TAXONOMY, random.Random(3))
    verdict = decide([annotation(i, paths) for i, paths in enumerate(given)], "c", AgreementPolicy())
    assert len(verdict.accepted) == 2
    assert TRUTH in verdict.accepted


def test_plan_is_seeded_and_whole() -> None:
    truths = dict.fromkeys(range(1, 1001), TRUTH)
    first, again, other = (plan(truths, TAXONOMY, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [(answer.task_id, answer.annotator) for answer in first] == [(t, a) for t in truths for a in range(3)]
    skipped = sum(not answer.paths for answer in first) / len(truths)
    assert skipped == pytest.approx(SHARES[Outcome.ONE_SKIPS], abs=0.02)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert {answer.annotator for answer in first if not answer.paths} == {0, 1, 2}  # each annotator skips some tasks
