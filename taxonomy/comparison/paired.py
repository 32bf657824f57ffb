"""Compares two models by their differences on the same images, which count by product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, prefixes

Numbers = npt.NDArray[np.float64]
LEAST_PROBABILITY = 0.01
"""A smaller probability of the label counts as this one, so that a few labels cannot decide a comparison."""
EVIDENCE_AGAINST = 0.7
"""A challenger that has learned from as many images as the champion is refused when both statistics together are
further below 0. At 0, a third of the challengers that are better would be refused with 200 test images. All numbers of
the rule were chosen with `benchmarks.trust.gate`, on seeds that its tables do not use."""
_MORE, _FEWER, _MOST = 10.0, 40.0, 2.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PathScores:
    """How well one model predicts n labels, each array (n,).

    `shared` counts the nodes that are on the predicted and on a labelled path, `given` those on the predicted path,
    `wanted` those on the labelled paths. `log_probability` is the mean, over the levels of the labelled paths, of the
    natural logarithm of the probability that the model gives to their nodes, at least that of `LEAST_PROBABILITY`.
    """

    shared: Numbers
    given: Numbers
    wanted: Numbers
    log_probability: Numbers

    @property
    def hierarchical_f1(self) -> float:
        """The hierarchical F1 (see `evaluate_paths`), 0 to 1; 0 without labels."""
        nodes = (self.given + self.wanted).sum()
        return float(2 * self.shared.sum() / nodes) if nodes else 0.0

    @classmethod
    def concatenated(cls, parts: Sequence[PathScores]) -> PathScores:
        """Return the scores of several controls as one."""
        empty: Numbers = np.zeros(0)
        names = ("shared", "given", "wanted", "log_probability")
        return cls(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in names))


@dataclass(frozen=True)
class PairedComparison:
    """The figures of a challenger and a champion on `labels` of `products`.

    F1 is hierarchical, 0 to 1; a loss is the mean of -log P(labelled node) over levels and labels, at most
    -log(`LEAST_PROBABILITY`). `t_f1` and `t_loss` are positive where the challenger is better. Each is about normal
    with variance 1 where the models do not differ, and never further from 0 than the root of the number of products.
    `learned` images taught the challenger, `champion_learned` the champion; 0 where that is not known.
    """

    labels: int
    products: int
    f1: float
    champion_f1: float
    loss: float
    champion_loss: float
    t_f1: float
    t_loss: float
    learned: int = 0
    champion_learned: int = 0

    @property
    def limit(self) -> float:
        """What both statistics together have to reach: less for a challenger that has learned from more images."""
        return -EVIDENCE_AGAINST - worth_of_images(self.learned, self.champion_learned)

    @property
    def is_worse(self) -> bool:
        """Whether the two statistics together speak clearly against the challenger."""
        return self.t_f1 + self.t_loss < self.limit - _ROUNDING


def worth_of_images(learned: int, champion_learned: int) -> float:
    """Return how far the numbers of images speak for the challenger, in units of t: -2 to 2, 0 for an unknown number.

    The F1 of a head rises about with the logarithm of the number of images, so the sum of both statistics is expected
    to be higher. Images that are missing count four times: they are rarely a random part, often a whole class.

    >>> round(worth_of_images(440, 400), 2), worth_of_images(800, 400), round(worth_of_images(390, 400), 2)
    (0.95, 2.0, -1.01)
    """
    if not learned or not champion_learned:
        return 0.0
    change = math.log(learned / champion_learned)
    return max(-_MOST, min(_MOST, (_MORE if change > 0 else _FEWER) * change))


def path_scores(
    truths: Sequence[Sequence[TaxonomyPath]],
    predictions: Sequence[TaxonomyPath | None],
    nodes: Sequence[TaxonomyPath],
    log_probabilities: FloatArray | None,
) -> PathScores:
    """Return the scores of a model on n images, each with at least one label.

    `nodes` are the names of the columns of its log P(path), `log_probabilities` (n, nodes), which are None for a model
    that does not know the control. The probabilities of several labels are added up at each level, where a shorter one
    counts at all levels below it, too; so are those of two columns with one name, since nodes may have been merged. A
    labelled node without a column has probability 0.
    """
    columns: dict[TaxonomyPath, list[int]] = {}
    for column, node in enumerate(nodes):
        columns.setdefault(node, []).append(column)
    shared, given, wanted, log_probability = np.zeros((4, len(truths)))
    for row, (paths, prediction) in enumerate(zip(truths, predictions, strict=True)):
        labelled = {node for path in paths for node in prefixes(path)}
        predicted = set(prefixes(prediction or ()))
        shared[row], given[row], wanted[row] = len(labelled & predicted), len(predicted), len(labelled)
        ends = deepest(paths)
        by_level = np.zeros(max(map(len, ends)))
        if log_probabilities is not None:
            for level in range(len(by_level)):
                own = [column for node in {path[: level + 1] for path in ends} for column in columns.get(node, ())]
                by_level[level] = np.exp(log_probabilities[row, own].astype(np.float64)).sum()
        log_probability[row] = np.log(np.clip(by_level, LEAST_PROBABILITY, 1.0)).mean()
    return PathScores(shared, given, wanted, log_probability)


def compare_paired(
    challenger: PathScores, champion: PathScores, products: Sequence[str], learned: tuple[int, int] = (0, 0)
) -> PairedComparison:
    """Return the comparison on the same labels, of which `products` has the product of each.

    `learned` are the numbers of images that the challenger and the champion have learned from, 0 for an unknown one.

    The difference of the F1 is that of sums: with F the champion's, a label's share of it is 2 * shared - F * (given +
    wanted), challenger minus champion. The differences of one product are added up to D, and t = sum D / sqrt(sum D²).
    It orders comparisons as Student's t does, and is defined for a single product, too (Efron 1969, Student's t-test
    under symmetry conditions, https://doi.org/10.1080/01621459.1969.10501056).

    Raises ValueError when the numbers of labels differ.
    """
    if not len(challenger.shared) == len(champion.shared) == len(products):
        raise ValueError(
            f"{len(challenger.shared)} and {len(champion.shared)} scores, but products of {len(products)} labels"
        )
    f1 = champion.hierarchical_f1
    shares = [2 * scores.shared - f1 * (scores.given + scores.wanted) for scores in (challenger, champion)]
    names, product = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
    count = len(products)
    return PairedComparison(
        labels=count,
        products=len(names),
        f1=challenger.hierarchical_f1,
        champion_f1=f1,
        loss=0.0 - float(challenger.log_probability.mean()) if count else 0.0,
        champion_loss=0.0 - float(champion.log_probability.mean()) if count else 0.0,
        t_f1=_self_normalised_sum(shares[0] - shares[1], product),
        t_loss=_self_normalised_sum(challenger.log_probability - champion.log_probability, product),
        learned=learned[0],
        champion_learned=learned[1],
    )


def _self_normalised_sum(differences: Numbers, product: npt.NDArray[np.int64]) -> float:
    sums = np.bincount(product, differences)
    length = float(np.sqrt((sums**2).sum()))
    return float(sums.sum() / length) if length > _ROUNDING else 0.0
