"""How far down the tree the images of one group have the same label, learned from groups with several labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

from taxonomist.taxonomy.calibration.clopper_pearson import clopper_pearson_lower_bound
from taxonomist.taxonomy.paths import TaxonomyPath

__all__ = ["PURE", "LevelPurity", "pure_depth", "purity_by_level"]

PURE = 0.9
"""The agreement from which a level counts as pure. `benchmarks.trust.groups` shows what mixed groups cost."""


@dataclass(frozen=True)
class LevelPurity:
    """The agreement of two labelled images of a group at one level: its mean over `groups`, and a lower bound.

    A group counts if two of its images have a label that reaches the level.
    """

    level: int
    groups: int
    agreement: float
    bound: float


def purity_by_level(
    truths: Sequence[Sequence[TaxonomyPath]],
    groups: Sequence[Hashable],
    depth: int,
    *,
    confidence: float = 0.9,
) -> tuple[LevelPurity, ...]:
    """Return the purity of a grouping at each level from 1 to `depth`.

    `truths` are the accepted labels of n images, `groups` (n,) name the group of each. The agreement of a group is the
    share of its pairs of images that have a node of the level in common. Groups are independent, images of one are
    not: each group counts once. The bound is Clopper and Pearson's, one-sided, with this confidence; without a group it
    is 0. Raises ValueError when the lengths differ.
    """
    members: dict[Hashable, list[Sequence[TaxonomyPath]]] = defaultdict(list)
    for paths, group in zip(truths, groups, strict=True):
        members[group].append(paths)
    found = []
    for level in range(1, depth + 1):
        agreements = [
            agreement
            for images in members.values()
            if len(images) > 1 and (agreement := _agreement(images, level)) is not None
        ]
        count, total = len(agreements), sum(agreements)
        bound = clopper_pearson_lower_bound(total, count, confidence)
        found.append(LevelPurity(level, count, total / count if count else 0.0, bound))
    return tuple(found)


def pure_depth(purity: Sequence[LevelPurity], least: float = PURE) -> int:
    """Return the deepest level down to which the bound of every level reaches `least`; 0 when level 1 does not."""
    depth = 0
    for level in purity:
        if level.bound < least:
            break
        depth = level.level
    return depth


def _agreement(images: Sequence[Sequence[TaxonomyPath]], level: int) -> float | None:
    """Return the share of pairs with a common node at the level, None without a pair of images that reach it."""
    nodes = Counter(frozenset(path[:level] for path in paths if len(path) >= level) for paths in images)
    nodes.pop(frozenset(), None)
    count = nodes.total()
    if count < 2:
        return None
    alike = sum(number * (number - 1) / 2 for number in nodes.values())
    alike += sum(nodes[one] * nodes[other] for one, other in combinations(nodes, 2) if one & other)
    return alike / (count * (count - 1) / 2)
