"""Dawid and Skene's model on a tree: what annotators name is weighed by how often each of them is right.

The truth of an image is one of the answers that its annotators gave, or none of them. An answer is the set of all nodes
that a person named, so one model serves one label, several, none, and labels at inner nodes. It is compared with a
possible truth level by level, below the nodes that both have:

- the truth goes on: the person is right, names a part of it, names other nodes, or stops;
- the truth ends: the person ends, too, or names deeper nodes.

How often each person does each of these at each level is learned from all images together, by expectation maximisation:
the probabilities of the truths follow from the rates of the people, and these from the former. The rates of a person
with few images are close to those of all. Which wrong node a person names is taken as drawn evenly from the nodes below
one parent.

With one level, one label and one rate for all mistakes, this is the model of Dawid and Skene, *Maximum Likelihood
Estimation of Observer Error-Rates Using the EM Algorithm* (1979), https://doi.org/10.2307/2346806.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from taxonomist.taxonomy.agreement.answer_table import (
    NOTHING,
    OTHER,
    Answer,
    AnswerTable,
    FloatArray,
    ImageAnswers,
    IntArray,
    Outcome,
    sums,
)
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

Rates = tuple[tuple[float, ...], ...]
"""For each level the rate of each outcome, in the order of `Outcome`."""

_ITERATIONS = 100
_CONVERGED = 1e-4  # change of a rate
_OWN = 4.0  # images of a person that weigh as much as the rates of all
_DECIMALS = 4  # of a rate, so that another machine's last bit decides nothing
_FIRST = np.array([16.0, 1.0, 2.0, 1.0, 8.0, 2.0])  # observations with which the rates of all begin
_GROUPS = (slice(0, Outcome.ENDED), slice(Outcome.ENDED, NOTHING))  # the truth goes on, the truth ends


@dataclass(frozen=True)
class AnnotatorRates:
    """How often the annotators of a control do what, as `fit` learned it.

    `everyone` has the rates of all, 0 to 1: of the first four outcomes, and of the last two, the sum is 1. `goes_on` is
    for each level the share of truths that go on there. `people` has the rates of each annotator with an answer. `tree`
    is the fingerprint of the tree, where it is kept.
    """

    everyone: Rates
    goes_on: tuple[float, ...]
    people: Mapping[str, Rates] = field(default_factory=dict)
    tree: str = ""


def fit(images: Sequence[ImageAnswers], tree: Tree) -> AnnotatorRates:
    """Return the rates of all annotators, from the answers of all images.

    The same images give the same rates: nothing is random, and earlier rates do not matter. In another order, the sums
    differ in their last bits, so a caller that keeps the rates sorts the images.
    """
    table = AnswerTable(images, tree)
    counts_of = _Counts(table)
    everyone = _normalised(np.tile(_FIRST, (tree.depth, 1)))
    people = np.tile(everyone, (len(table.people), 1, 1))
    goes_on: FloatArray = np.full(tree.depth, 0.9)
    for _ in range(_ITERATIONS):
        shares = posterior(table, people, goes_on)
        counts = counts_of(shares)
        everyone = _normalised(counts.sum(axis=0) + _FIRST)
        before, people = people, _normalised(counts + _OWN * everyone)
        goes_on = np.array([_share_going_on(steps, shares) for steps in table.steps.T])
        if not len(people) or np.abs(people - before).max() < _CONVERGED:
            break
    rounded = np.round(people, _DECIMALS).tolist()
    return AnnotatorRates(
        everyone=_rates(np.round(everyone, _DECIMALS).tolist()),
        goes_on=tuple(np.round(goes_on, _DECIMALS).tolist()),
        people={person: _rates(rates) for person, rates in zip(table.people, rounded, strict=True)},
    )


def probabilities(answers: Mapping[str, Answer], tree: Tree, rates: AnnotatorRates) -> dict[TaxonomyPath, float]:
    """Return for each node that an annotator named the probability that it is a label of the image, or above one.

    It never grows from a node to the nodes below it. The key `()` has the probability that the image has no label.
    Annotators that are not in `rates` count with the rates of all.
    """
    table = AnswerTable([ImageAnswers(answers)], tree)
    people = np.array([rates.people.get(person, rates.everyone) for person in table.people])
    shares = posterior(table, people, np.array(rates.goes_on)).tolist()
    found: dict[TaxonomyPath, float] = {}
    for truth, share in zip(table.truths, shares, strict=True):
        for node in truth or {()}:
            if OTHER not in node:
                found[node] = found.get(node, 0.0) + share
    return found


def posterior(table: AnswerTable, people: FloatArray, goes_on: FloatArray) -> FloatArray:
    """Return the probability of each possible truth of its image, shape (truths,).

    `people` has the rates, shape (people, depth, outcomes), and `goes_on` the shares of truths, shape (depth,).
    """
    return table.shares(table.by_truth(row_scores(table, people)) + prior_scores(table, goes_on))


def row_scores(table: AnswerTable, people: FloatArray) -> FloatArray:
    """Return the logarithm of the probability of each answer, given each possible truth, shape (rows,)."""
    logs = np.pad(np.log(np.maximum(people, 1e-4)), ((0, 0), (0, 0), (0, 1)))  # no outcome says nothing
    levels = np.arange(people.shape[1])
    scores: FloatArray = table.density + logs[table.person[:, None], levels, table.outcomes].sum(axis=1)
    return scores


def prior_scores(table: AnswerTable, goes_on: FloatArray) -> FloatArray:
    """Return the logarithm of the probability of each possible truth before any answer, shape (truths,)."""
    shares = np.clip(goes_on, 1e-4, 1 - 1e-4)
    steps = np.where(table.steps == 1, np.log(shares), np.where(table.steps == 0, np.log(1 - shares), 0.0))
    scores: FloatArray = table.weight + steps.sum(axis=1)
    return scores


class _Counts:
    """Counts how many outcomes each person had at each level, weighed by the probabilities of the truths."""

    def __init__(self, table: AnswerTable) -> None:
        depth = table.outcomes.shape[1]
        self._shape = (len(table.people), depth, NOTHING)
        has_outcome = table.outcomes != NOTHING
        place = (table.person[:, None] * depth + np.arange(depth)) * NOTHING + table.outcomes
        self._place = place[has_outcome]
        self._truth = np.broadcast_to(table.truth[:, None], place.shape)[has_outcome]

    def __call__(self, shares: FloatArray) -> FloatArray:
        """Return the counts, shape (people, depth, outcomes); `shares` has the shape (truths,)."""
        return sums(self._place, shares[self._truth], int(np.prod(self._shape))).reshape(self._shape)


def _normalised(counts: FloatArray) -> FloatArray:
    return np.concatenate([counts[..., group] / counts[..., group].sum(-1, keepdims=True) for group in _GROUPS], -1)


def _share_going_on(steps: IntArray, shares: FloatArray) -> float:
    return float((shares[steps == 1].sum() + 9) / (shares[steps >= 0].sum() + 10))


def _rates(levels: list[list[float]]) -> Rates:
    return tuple(map(tuple, levels))
