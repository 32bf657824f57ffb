"""How far down the tree a model can be trusted: temperature and thresholds, fitted on held-out images."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from taxonomist.taxonomy.calibration.temperature_scaling import Truths, fit_temperature
from taxonomist.taxonomy.calibration.wilson_bound import wilson_lower_bound
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path, path_log_probabilities
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class Calibration:
    """What the scores of a model are worth, learned on held-out images.

    `temperature` divides the logits. `thresholds[i]` is the lowest probability with which a node of level i + 1 is
    suggested, `inf` when none reaches `target_precision`; `support[i]` is the number of images it was judged on.
    """

    temperature: float
    thresholds: tuple[float, ...]
    target_precision: float
    support: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON-ready values; a level that is never suggested has `null`."""
        return {
            "temperature": self.temperature,
            "thresholds": [value if math.isfinite(value) else None for value in self.thresholds],
            "target_precision": self.target_precision,
            "support": list(self.support),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_json` wrote. Raises ConfigError when the data is not one."""
        try:
            return cls(
                temperature=float(data["temperature"]),
                thresholds=tuple(math.inf if value is None else float(value) for value in data["thresholds"]),
                target_precision=float(data["target_precision"]),
                support=tuple(int(value) for value in data["support"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"This is not a stored calibration: {error!r}.") from error


def fit_calibration(
    tree: Tree,
    logits: FloatArray,
    truths: Truths,
    *,
    target_precision: float = 0.90,
    confidence: float = 0.80,
    learned: Collection[TaxonomyPath] | None = None,
) -> Calibration:
    """Return the temperature and, per level, the lowest threshold that keeps `target_precision` with `confidence`.

    `logits` are those of held-out images, shape (n, nodes); `truths` their accepted labels, n sequences (empty ones are
    left out). At a level, the candidate is the node of the greedy path there, as in `suggest`. It is right when a truth
    goes through it, and it is not judged when a truth stops above it on the same path, for nobody knows better. (A
    truth that stops elsewhere does judge it: wrong.) The threshold is the lowest for which the one-sided Wilson bound
    of the precision of the candidates at or above it reaches the target; `inf` when there is none. With `leafs_only`
    only leaves are candidates.

    `learned`: nodes that the model had an example of, where not all are. The others count for the thresholds, but not
    for the temperature: no spread makes a model right about what it has never seen, and trying would drown the rest.

    Raises ValueError when the shapes differ, TrainingError on a truth that the tree does not have.
    """
    if len(logits) != len(truths):
        raise ValueError(f"{len(logits)} rows of logits but {len(truths)} truths")
    _check_known(tree, truths)
    temperature = fit_temperature(tree, logits, truths if learned is None else _shortened(truths, learned))
    probabilities = np.exp(path_log_probabilities(np.asarray(logits) / temperature, tree))
    scores: list[list[float]] = [[] for _ in range(tree.depth)]
    correct: list[list[bool]] = [[] for _ in range(tree.depth)]
    for row, paths in zip(probabilities, truths, strict=True):
        if not paths:
            continue
        named = {node for path in paths for node in prefixes(path)}
        for node in greedy_path(tree, row):
            path = tree.paths[node]
            if tree.leafs_only and not tree.is_leaf[node]:
                continue
            if path in named or not any(path[: len(truth)] == truth for truth in paths):
                scores[len(path) - 1].append(float(row[node]))
                correct[len(path) - 1].append(path in named)
    z = NormalDist().inv_cdf(confidence)
    return Calibration(
        temperature=temperature,
        thresholds=tuple(_lowest_threshold(s, c, target_precision, z) for s, c in zip(scores, correct, strict=True)),
        target_precision=target_precision,
        support=tuple(map(len, scores)),
    )


def _shortened(truths: Truths, learned: Collection[TaxonomyPath]) -> list[list[TaxonomyPath]]:
    """Each truth as far as the model can know it."""
    known = [[[node for node in prefixes(path) if node in learned] for path in paths] for paths in truths]
    return [[nodes[-1] for nodes in paths if nodes] for paths in known]


def _lowest_threshold(scores: Sequence[float], correct: Sequence[bool], target: float, z: float) -> float:
    order = np.argsort(scores)[::-1]
    right = 0
    lowest = math.inf
    for count, place in enumerate(order, start=1):
        right += correct[place]
        next_score = scores[order[count]] if count < len(order) else -math.inf
        # equal scores are above a threshold together or not at all
        if next_score < scores[place] and wilson_lower_bound(right, count, z) >= target:
            lowest = scores[place]
    return lowest


def _check_known(tree: Tree, truths: Truths) -> None:
    for path in {path for paths in truths for path in paths}:
        if path not in tree:
            raise TrainingError(f'The label "{format_path(path)}" is not in the taxonomy "{tree.control}".')
