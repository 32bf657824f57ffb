"""Compares two models by their differences on the same images, which count by product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, prefixes

Numbers = npt.NDArray[np.float64]
LEAST_PROBABILITY = 0.01
"""A smaller probability of the label counts as this one, so that a few labels cannot decide a comparison."""
EVIDENCE_AGAINST = 1.0
"""A challenger is refused when both statistics together are further below 0. At 0, a third of the challengers that are
better would be refused with 200 test images. Both numbers were chosen with `benchmarks.trust.gate`, on seeds that its
table does not use."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PathScores:
    """How well one model predicts n labels, each array (n,).

    `shared` counts the nodes that are on the predicted and on a labelled path, `given` those on the predicted path,
    `wanted` those on the labelled paths. `log_probability` is the natural logarithm of the probability that the model
    gives to the deepest labelled nodes, at least that of `LEAST_PROBABILITY`.
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

    F1 is hierarchical, 0 to 1; a loss is the mean of -log P(labelled path), at most -log(`LEAST_PROBABILITY`). `t_f1`
    and `t_loss` are positive where the challenger is better. Each is about normal with variance 1 where the models do
    not differ, and never further from 0 than the root of the number of products.
    """

    labels: int
    products: int
    f1: float
    champion_f1: float
    loss: float
    champion_loss: float
    t_f1: float
    t_loss: float

    @property
    def is_worse(self) -> bool:
        """Whether the two statistics together speak clearly against the challenger."""
        return self.t_f1 + self.t_loss < -EVIDENCE_AGAINST - _ROUNDING


def path_scores(
    truths: Sequence[Sequence[TaxonomyPath]],
    predictions: Sequence[TaxonomyPath | None],
    nodes: Sequence[TaxonomyPath],
    log_probabilities: FloatArray | None,
) -> PathScores:
    """Return the scores of a model on n images, each with at least one label.

    `nodes` are the names of the columns of its log P(path), `log_probabilities` (n, nodes), which are None for a model
    that does not know the control. Of two columns with one name the probabilities are added up: nodes may have been
    merged. A labelled node without a column has probability 0.
    """
    columns: dict[TaxonomyPath, list[int]] = {}
    for column, node in enumerate(nodes):
        columns.setdefault(node, []).append(column)
    shared, given, wanted = np.zeros((3, len(truths)))
    probability = np.zeros(len(truths))
    for row, (paths, prediction) in enumerate(zip(truths, predictions, strict=True)):
        labelled = {node for path in paths for node in prefixes(path)}
        predicted = set(prefixes(prediction or ()))
        shared[row], given[row], wanted[row] = len(labelled & predicted), len(predicted), len(labelled)
        if log_probabilities is not None:
            own = [column for path in deepest(paths) for column in columns.get(path, ())]
            probability[row] = np.exp(log_probabilities[row, own].astype(np.float64)).sum()
    return PathScores(shared, given, wanted, np.log(np.clip(probability, LEAST_PROBABILITY, 1.0)))


def compare_paired(challenger: PathScores, champion: PathScores, products: Sequence[str]) -> PairedComparison:
    """Return the comparison on the same labels, of which `products` has the product of each.

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
    )


def _self_normalised_sum(differences: Numbers, product: npt.NDArray[np.int64]) -> float:
    sums = np.bincount(product, differences)
    length = float(np.sqrt((sums**2).sum()))
    return float(sums.sum() / length) if length > _ROUNDING else 0.0
