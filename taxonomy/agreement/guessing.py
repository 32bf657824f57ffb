"""Which annotators guess: those who agree with the others hardly more often than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.taxonomy.agreement.answer_table import (
    OTHER,
    Answer,
    AnswerTable,
    ImageAnswers,
    IntArray,
    Outcome,
    softmax,
)
from taxonomist.taxonomy.agreement.dawid_skene import AnnotatorRates, prior_scores, row_scores
from taxonomist.taxonomy.calibration.clopper_pearson import clopper_pearson_lower_bound
from taxonomist.taxonomy.tree import Tree

_CONFIDENCE = 0.95
_SKILL = 0.25  # of the way from chance to always right
_FEWEST_PEOPLE = 3  # of two who disagree, nothing says who guesses


@dataclass(frozen=True)
class AnnotatorSkill:
    """How often an annotator is right at level 1, as the others see it.

    `images` is the number of images that others annotated, too, or whose truth is known. `right` is the share of them,
    0 to 1, where the annotator names what is true by the answers of the others, each weighed by how often they are
    right. `chance` is that share if the same answers were given to the images at random.
    """

    annotator: str
    images: int
    right: float
    chance: float

    @property
    def guesses(self) -> bool:
        """Whether `right` lies, with 95 % confidence, less than a quarter of the way from `chance` to 1.

        The bound is that of Clopper and Pearson.
        """
        wrong = (1 - self.right) * self.images
        most = 1 - clopper_pearson_lower_bound(wrong, self.images, _CONFIDENCE)
        return most - self.chance < _SKILL * (1 - self.chance)


def skills(images: Sequence[ImageAnswers], tree: Tree, rates: AnnotatorRates) -> tuple[AnnotatorSkill, ...]:
    """Return how often each annotator is right at level 1, in the order of their names; none with fewer than three."""
    shared = [image for image in images if len(image.answers) > 1 or image.truth is not None]
    if len({person for image in shared for person in image.answers}) < _FEWEST_PEOPLE:
        return ()
    table = AnswerTable(shared, tree)
    people = np.array([rates.people.get(person, rates.everyone) for person in table.people])
    own = row_scores(table, people)
    scores = table.by_truth(own) + prior_scores(table, np.array(rates.goes_on))
    shares = softmax(scores[table.truth] - own, table.answer)  # without the own answer
    is_right = np.isin(table.outcomes[:, 0], (Outcome.RIGHT, Outcome.ENDED))
    right = np.bincount(table.person, weights=shares * is_right)
    answers = np.bincount(table.person, weights=shares)
    given, true = _tops(table, shared)
    kinds = max(given.max(), true.max()) + 1
    size = len(people) * kinds
    named = np.bincount(table.person * kinds + given, weights=shares, minlength=size).reshape(-1, kinds)
    truths = np.bincount(table.person * kinds + true, weights=shares, minlength=size).reshape(-1, kinds)
    chance = (named * truths).sum(axis=1) / answers**2
    return tuple(
        AnnotatorSkill(person, round(count), value / count, expected)
        for person, count, value, expected in zip(
            table.people, answers.tolist(), right.tolist(), chance.tolist(), strict=True
        )
    )


def _tops(table: AnswerTable, images: Sequence[ImageAnswers]) -> tuple[IntArray, IntArray]:
    """Return for each row what is named at level 1, and what is true there, as numbers."""
    numbers: dict[Answer, int] = {}

    def number(nodes: Answer) -> int:
        return numbers.setdefault(frozenset(node for node in nodes if len(node) == 1), len(numbers))

    given = np.array([number(image.answers[person]) for image in images for person in sorted(image.answers)])
    true = np.array(
        [number(truth) if (OTHER,) not in truth else number(frozenset({(OTHER,)})) for truth in table.truths]
    )
    return given[table.answer], true[table.truth]
