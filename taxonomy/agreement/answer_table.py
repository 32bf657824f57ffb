"""The answers of people on a tree, compared with what may be the truth: the arrays that `dawid_skene` works on."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

Answer = frozenset[TaxonomyPath]
"""All nodes that a person named, with those above them; empty for "no answer"."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

OTHER = "\0"
"""The name of a node that no annotator of an image named."""

_MOST_TRUTHS = 20  # of an image: the answers given most often


class Outcome(IntEnum):
    """What a person did at a level, given the truth; the first four where it goes on, the last two where it ends."""

    RIGHT = 0
    PARTLY = 1
    WRONG = 2
    STOPPED = 3
    ENDED = 4
    DEEPER = 5


NOTHING = len(Outcome)
"""No outcome: the answer is off the truth above this level, or the tree has nothing below."""


@dataclass(frozen=True)
class ImageAnswers:
    """The answers of an image by annotator, and its truth where that is known, as from a ground-truth annotation."""

    answers: Mapping[str, Answer]
    truth: Answer | None = None


class Comparer:
    """Compares answers with possible truths on one tree."""

    def __init__(self, tree: Tree) -> None:
        self.depth = tree.depth
        self._tree = tree

    def _width(self, node: TaxonomyPath) -> int:
        """Return the number of nodes right below a node, or of those of level 1 for ()."""
        position = self._tree.index.get(node) if node else -1
        return 0 if position is None else len(self._tree.children(position))

    def _even_draw(self, nodes: Iterable[TaxonomyPath]) -> float:
        """Return the logarithm of the probability of these nodes, each drawn evenly from those below its parent.

        A node below one that the tree does not have, such as what a skip may vote for, is the only one there.
        """
        # The sum of a set must not depend on its order, which is another one in each process.
        return math.fsum(-math.log(max(self._width(node[:-1]), 1)) for node in nodes)

    def truths(self, answers: Iterable[Answer]) -> list[tuple[Answer, float]]:
        """Return what may be the truth of an image, with the logarithm of its weight before any answer.

        The answers may be the truth. So may nodes that no answer names: below the top, and below each node that an
        answer names, one node `OTHER` stands for all of them. The nodes below one parent weigh the same.
        """
        given = Counter(answers)
        chosen = sorted(given, key=lambda answer: (-given[answer], sorted(answer)))[:_MOST_TRUTHS]
        named = sorted(set().union(*chosen))
        found = [(answer, self._even_draw(answer)) for answer in chosen]
        below = Counter(node[:-1] for node in named)
        for parent in [(), *named]:
            others = self._width(parent) - below[parent]
            if others > 0:
                weight = self._even_draw(prefixes(parent)) + math.log(others / self._width(parent))
                found.append((frozenset((*prefixes(parent), (*parent, OTHER))), weight))
        return found

    def compare(self, answer: Answer, truth: Answer) -> tuple[tuple[int, ...], float]:
        """Return the outcome at each level, and the logarithm of the probability of the nodes that are not true."""
        outcomes: list[int] = []
        shared: frozenset[TaxonomyPath] = frozenset({()})
        for level in range(1, self.depth + 1):
            if not any(self._width(node) for node in shared):
                break
            given = frozenset(node for node in answer if len(node) == level and node[:-1] in shared)
            true = frozenset(node for node in truth if len(node) == level and node[:-1] in shared)
            outcomes.append(_outcome(given, true))
            shared = given & true
        outcomes += [NOTHING] * (self.depth - len(outcomes))
        return tuple(outcomes), self._even_draw(answer - truth)

    def steps(self, truth: Answer) -> tuple[int, ...]:
        """Return for each level 1 where the truth goes on, 0 where it ends above nodes, -1 where neither is known."""
        steps = []
        parents: list[TaxonomyPath] = [()]
        for level in range(1, self.depth + 1):
            if not any(self._width(node) for node in parents) or any(OTHER in node for node in parents):
                break
            parents = [node for node in truth if len(node) == level]
            steps.append(int(bool(parents)))
        return (*steps, *[-1] * (self.depth - len(steps)))


def _outcome(given: Answer, true: Answer) -> Outcome:
    if not true:
        return Outcome.DEEPER if given else Outcome.ENDED
    if given == true:
        return Outcome.RIGHT
    if not given:
        return Outcome.STOPPED
    return Outcome.PARTLY if given & true else Outcome.WRONG


class AnswerTable:
    """Each answer beside each possible truth of its image; each such pair is a row.

    `people` are the annotators, sorted, and `truths` the possible truths, image after image. Arrays with a value per
    row, shape (rows,): `person`, `answer` and `truth` number these from 0, and `density` is the logarithm of the
    probability of the nodes that are not true. `outcomes`, shape (rows, depth), has the outcome at each level. Arrays
    with a value per possible truth: `image` and `weight`, shape (truths,), and `steps`, shape (truths, depth): 1 at the
    levels where it goes on, 0 where it ends, -1 where neither is known.
    """

    def __init__(self, images: Sequence[ImageAnswers], tree: Tree) -> None:
        comparer = Comparer(tree)
        self.images = len(images)
        self.people = sorted({person for image in images for person in image.answers})
        self.truths: list[Answer] = []
        number_of = {person: number for number, person in enumerate(self.people)}
        rows = array("q")  # four numbers each: a list of tuples would need ten times the memory
        weighed: list[tuple[int, float]] = []
        compared: dict[tuple[Answer, Answer], int] = {}
        results: list[tuple[tuple[int, ...], float]] = []
        answers = 0
        for position, image in enumerate(images):
            possible = comparer.truths(image.answers.values()) if image.truth is None else [(image.truth, 0.0)]
            first = len(self.truths)
            self.truths += [truth for truth, _ in possible]
            weighed += [(position, weight) for _, weight in possible]
            for person in sorted(image.answers):
                for offset, (truth, _) in enumerate(possible):
                    pair = (image.answers[person], truth)
                    if pair not in compared:
                        compared[pair] = len(results)
                        results.append(comparer.compare(*pair))
                    rows.extend((number_of[person], answers, first + offset, compared[pair]))
                answers += 1
        numbers = np.array(rows, dtype=np.intp).reshape(-1, 4)
        self.person, self.answer, self.truth, result = numbers.T
        depth = comparer.depth
        self.outcomes = np.array([found for found, _ in results], dtype=np.intp).reshape(-1, depth)[result]
        self.density = np.array([density for _, density in results], dtype=np.float64)[result]
        self.image = np.array([position for position, _ in weighed], dtype=np.intp)
        self.weight = np.array([weight for _, weight in weighed], dtype=np.float64)
        self.steps = np.array([comparer.steps(truth) for truth in self.truths], dtype=np.intp).reshape(-1, depth)

    def by_truth(self, rows: FloatArray) -> FloatArray:
        """Return the sum over the answers for each possible truth, shape (truths,)."""
        return sums(self.truth, rows, len(self.truths))

    def shares(self, scores: FloatArray) -> FloatArray:
        """Return the probability of each possible truth of its image from logarithms, shape (truths,)."""
        return softmax(scores, self.image)


def softmax(scores: FloatArray, groups: IntArray) -> FloatArray:
    """Return the softmax within each group; `scores` and `groups` have the shape (n,), and the groups are sorted."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(starts, append=len(groups))
    if not len(starts):
        return scores
    shares: FloatArray = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    shares /= np.repeat(np.add.reduceat(shares, starts), sizes)
    return shares


def sums(groups: IntArray, values: FloatArray, count: int) -> FloatArray:
    """Return the sum of the values in each of `count` groups; `groups` and `values` have the shape (n,)."""
    return np.asarray(np.bincount(groups, weights=values, minlength=count), dtype=np.float64)
