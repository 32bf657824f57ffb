"""Accepted labels that may be wrong: views of a product or near-duplicates disagree, or a model finds them unlikely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, prefixes
from taxonomist.taxonomy.tree import Tree

__all__ = ["Doubt", "DoubtReason", "doubtful_labels", "pure_groups"]

DoubtReason = Literal["views", "near-duplicates", "probability"]
"""Why a label is doubtful. They are listed in this order."""

Paths = tuple[TaxonomyPath, ...]

PURE = 0.75
"""A grouping of images counts at a level if at least this share of the pairs of its images have the same node there.

With a tenth of the labels wrong it is 0.81 for views of products; reports that show several things have less."""

_ASSUMED_PAIRS = 10
"""Pairs that agree are added, so that a few wrong labels of a small project do not make its products look mixed."""

_FLOOR = 1e-3
"""Added to probabilities before they are divided, so that a very small one does not outweigh everything."""


@dataclass(frozen=True)
class Doubt:
    """A label that may be wrong, of the image `row`.

    `contradicting` are the paths that contradict it, and `other` is the image that has them as its label, None for a
    model's. `votes` are the images of the group that agree with the contradicting label, and with the given one.
    `probability` is that of the given label, and `contradicting_probability` that of the other, by models that did not
    learn from the image; in a group they are means over its images.
    """

    row: int
    reason: DoubtReason
    contradicting: Paths
    other: int | None
    votes: tuple[int, int]
    probability: float
    contradicting_probability: float


def doubtful_labels(
    tree: Tree,
    labels: Sequence[Sequence[TaxonomyPath]],
    probabilities: FloatArray,
    products: Sequence[Hashable | None],
    near: Sequence[Hashable | None],
) -> list[Doubt]:
    """Return the labels that contradict other images or the model, the most doubtful first, each image once.

    `labels` are the paths of n images in the tree; `probabilities` (n, nodes) say how likely each path is for models
    that did not learn from the image, 0 for a node that they do not know. Images with the same entry in `products`, or
    in `near`, show the same; None stands for nothing known.

    1. Views of a product that disagree. The label that most of them agree with contradicts the others; of as many, the
       one that the model finds likelier. More votes come first.
    2. The same among near-duplicates.
    3. Labels that are less probable than another node of their level, by log((p + .001) / (q + .001)), where p is the
       probability of the given label and q that of the other. A label counts as deep as the model knows it.

    Two labels disagree when neither is a part of the other; of several paths one that fits is enough. Groups count only
    as deep as they are pure, see `PURE`. Raises ValueError when the shapes differ.
    """
    if not len(labels) == len(probabilities) == len(products) == len(near):
        raise ValueError(
            f"{len(labels)} labels, {len(probabilities)} rows, {len(products)} products and {len(near)} near-duplicates"
        )
    given = _known_paths(tree, labels)
    found: dict[int, Doubt] = {}
    for doubts in (
        _in_groups(tree, given, probabilities, products, "views"),
        _in_groups(tree, given, probabilities, near, "near-duplicates"),
        _by_probability(tree, given, probabilities),
    ):
        for doubt in doubts:
            found.setdefault(doubt.row, doubt)
    return list(found.values())


def pure_groups(
    tree: Tree, labels: Sequence[Sequence[TaxonomyPath]], groups: Sequence[Hashable | None]
) -> Sequence[Hashable | None]:
    """Return the groups of n images with these labels; None for all where they do not even agree at level 1.

    They are mixed then, such as service reports that show several things, and say nothing about a label.
    """
    given = _known_paths(tree, labels)
    return groups if _pure_depth(given, _several(given, groups)) else [None] * len(groups)


def _in_groups(
    tree: Tree,
    given: Sequence[Paths],
    probabilities: FloatArray,
    groups: Sequence[Hashable | None],
    reason: DoubtReason,
) -> list[Doubt]:
    several = _several(given, groups)
    depth = _pure_depth(given, several)
    doubts = [doubt for rows in several for doubt in _in_group(tree, given, probabilities, rows, depth, reason)]
    return sorted(doubts, key=lambda doubt: (doubt.votes[1] - doubt.votes[0], _ratio(doubt)))


def _known_paths(tree: Tree, labels: Sequence[Sequence[TaxonomyPath]]) -> list[Paths]:
    return [deepest([path for path in paths if path in tree]) for paths in labels]


def _several(given: Sequence[Paths], groups: Sequence[Hashable | None]) -> list[list[int]]:
    """Return the labelled images of each group that has several."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if group is not None and given[row]:
            members[group].append(row)
    return [rows for rows in members.values() if len(rows) > 1]


def _in_group(
    tree: Tree, given: Sequence[Paths], probabilities: FloatArray, rows: Sequence[int], depth: int, reason: DoubtReason
) -> Iterator[Doubt]:
    sides: dict[Paths, list[int]] = defaultdict(list)
    for row in rows:
        sides[_cut(given[row], depth)].append(row)
    if len(sides) < 2 or not depth:
        return
    votes = {side: sum(len(same) for other, same in sides.items() if _agree(side, other)) for side in sides}
    mean = {side: float(_probability(tree, probabilities[rows], side).mean()) for side in sides}
    winner = max(sides, key=lambda side: (votes[side], mean[side]))
    for side, same in sides.items():
        if not _agree(side, winner):
            for row in same:
                other = sides[winner][0]
                yield Doubt(row, reason, given[other], other, (votes[winner], votes[side]), mean[side], mean[winner])


def _by_probability(tree: Tree, given: Sequence[Paths], probabilities: FloatArray) -> list[Doubt]:
    rows_of: dict[Paths, list[int]] = defaultdict(list)
    for row, paths in enumerate(given):
        if known := _known(tree, paths, probabilities[row]):
            rows_of[known].append(row)
    doubts = []
    for paths, rows in rows_of.items():
        level = max(map(len, paths))
        rivals = np.array(
            [
                node
                for node, path in enumerate(tree.paths)
                if (len(path) == level or (len(path) < level and tree.is_leaf[node])) and not _agree((path,), paths)
            ],
            np.int64,
        )
        if not len(rivals):
            continue
        own = _probability(tree, probabilities[rows], paths)
        others = probabilities[np.array(rows)[:, None], rivals]
        best = others.argmax(axis=1)
        for row, probability, rival, column in zip(rows, own, others.max(axis=1), best, strict=True):
            if rival > probability:
                contradicting = (tree.paths[int(rivals[column])],)
                doubts.append(Doubt(row, "probability", contradicting, None, (0, 0), float(probability), float(rival)))
    return sorted(doubts, key=_ratio)


def _ratio(doubt: Doubt) -> float:
    return float(np.log((doubt.probability + _FLOOR) / (doubt.contradicting_probability + _FLOOR)))


def _probability(tree: Tree, probabilities: FloatArray, paths: Paths) -> FloatArray:
    """Return P(any of the paths), shape (rows,); none of them is a part of another."""
    total: FloatArray = probabilities[:, [tree.index[path] for path in paths]].sum(axis=1)
    return total


def _known(tree: Tree, paths: Paths, probabilities: FloatArray) -> Paths:
    """Return the paths, each as far as the model knows it."""
    known = ([node for node in prefixes(path) if probabilities[tree.index[node]] > 0] for path in paths)
    return deepest({nodes[-1] for nodes in known if nodes})


def _agree(paths: Iterable[TaxonomyPath], others: Sequence[TaxonomyPath]) -> bool:
    """Return whether a path of the one is a part of a path of the other, or the same."""
    return any(path[: len(other)] == other[: len(path)] for path in paths for other in others)


def _cut(paths: Paths, depth: int) -> Paths:
    return deepest({path[:depth] for path in paths})


def _pure_depth(given: Sequence[Paths], groups: Sequence[Sequence[int]]) -> int:
    """Return the deepest level down to which at least the share `PURE` of the pairs of images in a group agree."""
    deepest_level = max((len(path) for rows in groups for row in rows for path in given[row]), default=0)
    for depth in range(deepest_level, 0, -1):
        agreeing = pairs = 0
        for rows in groups:
            counts: dict[Paths, int] = defaultdict(int)
            for row in rows:
                counts[_cut(given[row], depth)] += 1
            pairs += len(rows) * (len(rows) - 1) // 2
            agreeing += sum(count * (count - 1) // 2 for count in counts.values())
            agreeing += _agreeing_between(counts)
        if agreeing + _ASSUMED_PAIRS >= PURE * (pairs + _ASSUMED_PAIRS):
            return depth
    return 0


def _agreeing_between(counts: Mapping[Paths, int]) -> int:
    """Return the pairs of images that agree although their labels differ."""
    return sum(counts[a] * counts[b] for a, b in combinations(counts, 2) if _agree(a, b))
