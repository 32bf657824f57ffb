"""How well the annotators of a project agree at each level: pairwise agreement and Krippendorff's alpha.

The figures inform people; they decide nothing. `agreement` decides which labels are accepted.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from taxonomist.taxonomy.annotations import Annotation, named_nodes, newest_of_each
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class LevelAgreement:
    """Agreement at one level. `images` is the number of images that at least two people labelled down to this level.

    `pairwise` is the share, 0 to 1, of pairs of annotators of the same image who named the same nodes. `alpha` is
    Krippendorff's alpha: 1 for perfect agreement, 0 for chance. Both are nan without a pair; alpha is also nan when
    all annotators named the same node on every image.
    """

    level: int
    images: int
    pairwise: float
    alpha: float


def agreement_report(images: Sequence[Sequence[Annotation]], tree: Tree) -> tuple[LevelAgreement, ...]:
    """Return the agreement at each level of the tree, level 1 first.

    `images` holds one sequence of annotations per image. The value of an annotator at a level is the set of nodes that
    they named there, compared as a whole. Skips, rejected annotations and paths that stop above the level are missing
    values, not disagreement.
    """
    named = [
        [
            named_nodes(annotation, tree.control)
            for annotation in newest_of_each(annotations)
            if not annotation.skipped and not annotation.rejected
        ]
        for annotations in images
    ]
    report = []
    for level in range(1, tree.depth + 1):
        units = [[value for nodes in people if (value := _at_level(nodes, level))] for people in named]
        pairable = [unit for unit in units if len(unit) >= 2]
        report.append(LevelAgreement(level, len(pairable), pairwise_agreement(pairable), nominal_alpha(pairable)))
    return tuple(report)


def pairwise_agreement(units: Sequence[Sequence[Hashable]]) -> float:
    """Return the share of equal pairs among all pairs of values of the same unit; nan without a pair."""
    pairs = sum(math.comb(len(unit), 2) for unit in units)
    equal = sum(math.comb(count, 2) for unit in units for count in Counter(unit).values())
    return equal / pairs if pairs else math.nan


def nominal_alpha(units: Sequence[Sequence[Hashable]]) -> float:
    """Return Krippendorff's alpha for nominal values, one sequence of values per unit; nan when it is undefined.

    Units with fewer than two values are left out. With m values in a unit and n values in all, alpha = 1 - D_o / D_e
    with D_o = sum over units of (ordered pairs that differ) / (m - 1) / n and D_e = (ordered pairs of all values that
    differ) / (n (n - 1)).

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C,
    https://repository.upenn.edu/asc_papers/43
    """
    pairable = [unit for unit in units if len(unit) >= 2]
    overall = Counter(value for unit in pairable for value in unit)
    total = overall.total()
    expected = _differing(overall)
    if not expected:
        return math.nan
    observed = math.fsum(_differing(Counter(unit)) / (len(unit) - 1) for unit in pairable)
    return 1 - (total - 1) * observed / expected


def _differing(counts: Counter[Hashable]) -> int:
    """Return the number of ordered pairs of values that differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def _at_level(nodes: frozenset[TaxonomyPath], level: int) -> frozenset[TaxonomyPath]:
    return frozenset(node for node in nodes if len(node) == level)
