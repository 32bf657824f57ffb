"""Simulated annotators: they know what an image shows, and sometimes make a mistake, disagree or skip."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.environment import Say, silent
from taxonomist.backend.demo.project import CONTROL, TO_NAME
from taxonomist.taxonomy.paths import TaxonomyPath


class Outcome(StrEnum):
    """How three annotators label one task."""

    AGREE = "agree"
    TWO_TO_ONE = "two to one"
    ALL_DIFFER = "all differ"
    ONE_STOPS_EARLY = "one stops early"
    SEVERAL_PATHS = "several paths"
    ONE_SKIPS = "one skips"


SHARES: Mapping[Outcome, float] = {
    Outcome.AGREE: 0.76,
    Outcome.TWO_TO_ONE: 0.08,
    Outcome.ALL_DIFFER: 0.04,
    Outcome.ONE_STOPS_EARLY: 0.04,
    Outcome.SEVERAL_PATHS: 0.04,
    Outcome.ONE_SKIPS: 0.04,
}


@dataclass(frozen=True)
class Answer:
    """The annotation of one annotator (0, 1 or 2) for a task; without paths the task is skipped."""

    task_id: int
    annotator: int
    paths: tuple[TaxonomyPath, ...]


def plan(
    truths: Mapping[int, TaxonomyPath],
    taxonomy: Sequence[TaxonomyPath],
    *,
    shares: Mapping[Outcome, float] = SHARES,
    seed: int = 0,
) -> tuple[Answer, ...]:
    """Return three answers for each task of `truths` (task id to true path), by task.

    `taxonomy` has the paths with which an annotator may confuse the truth, `shares` the frequency of each outcome. The
    same arguments give the same answers.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    outcomes = chance.choices(list(shares), list(shares.values()), k=len(truths))
    return tuple(
        Answer(task_id, annotator, paths)
        for (task_id, truth), outcome in zip(truths.items(), outcomes, strict=True)
        for annotator, paths in enumerate(answers(outcome, truth, taxonomy, chance))
    )


def answers(
    outcome: Outcome, truth: TaxonomyPath, taxonomy: Sequence[TaxonomyPath], chance: random.Random
) -> list[tuple[TaxonomyPath, ...]]:
    """Return the paths that each of three annotators names, in a random order of annotators; () is a skip."""
    # Wrong paths differ from the truth and from each other at level 1, so that "all differ" holds at every level.
    tops = sorted({path[0] for path in taxonomy} - {truth[0]})
    wrong, other = (
        chance.choice(sorted(path for path in taxonomy if path[0] == top)) for top in chance.sample(tops, k=2)
    )
    paths: dict[Outcome, list[tuple[TaxonomyPath, ...]]] = {
        Outcome.AGREE: [(truth,), (truth,), (truth,)],
        Outcome.TWO_TO_ONE: [(truth,), (truth,), (wrong,)],
        Outcome.ALL_DIFFER: [(truth,), (wrong,), (other,)],
        Outcome.ONE_STOPS_EARLY: [(truth,), (truth,), (truth[:-1] or truth,)],
        Outcome.SEVERAL_PATHS: [(truth, other), (other, truth), (truth, other)],
        Outcome.ONE_SKIPS: [(truth,), (truth,), ()],
    }
    by_annotator = paths[outcome]
    chance.shuffle(by_annotator)
    return by_annotator


def annotate(url: str, annotators: Sequence[Account], answers: Sequence[Answer], *, say: Say = silent) -> int:
    """Submit the answers to the Label Studio at `url`, one after the other; return how many.

    They are not sent in parallel: Label Studio counts a task's annotations wrong when two arrive at once.

    Raises `LabelStudioError` at the first answer that Label Studio refuses.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(account.client(url)) for account in annotators]
        for number, answer in enumerate(answers, start=1):
            checked(clients[answer.annotator].post(f"/api/tasks/{answer.task_id}/annotations/", json=_body(answer)))
            if number % 50 == 0:
                say(f"Simulated annotators: {number} of {len(answers)} annotations")
    return len(answers)


def _body(answer: Answer) -> dict[str, object]:
    value = {"taxonomy": [list(path) for path in answer.paths]}
    result = {"from_name": CONTROL, "to_name": TO_NAME, "type": "taxonomy", "value": value}
    skipped = not answer.paths
    return {"result": [] if skipped else [result], "was_cancelled": skipped, "lead_time": 3.0}
