"""The lowest probability per level with which a node is suggested, fitted on held-out images."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from taxonomist.taxonomy.calibration.precision_test import Promise
from taxonomist.taxonomy.calibration.temperature_scaling import Truths, fit_temperature
from taxonomist.taxonomy.calibration.wilson_bound import wilson_lower_bound
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path, path_log_probabilities
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of a model can be trusted, learned on held-out images.

    `temperature` divides the logits. `thresholds[i]` is the lowest probability with which a node of level i + 1 is
    suggested, `inf` when no threshold reaches `target_precision`; `support[i]` is the number of images it was fitted
    on. `shortlists[i]` is the lowest sum of probabilities with which the likeliest nodes of level i + 1 are listed
    where no path is suggested, see `fit_shortlists`; empty for a calibration without them.

    `promise` says how the target is kept, see `PrecisionTest`, and `labels` on how many labelled images that rests.
    Where no path is suggested, it takes about `labels_needed` of them; None where this is not known.
    """

    temperature: float
    thresholds: tuple[float, ...]
    target_precision: float
    support: tuple[int, ...]
    shortlists: tuple[float, ...] = ()
    promise: Promise = "sure"
    labels: int = 0
    labels_needed: int | None = None

    @property
    def suggests_paths(self) -> bool:
        """Whether there is a probability from which a path is suggested."""
        return any(map(math.isfinite, self.thresholds))

    @property
    def has_shortlists(self) -> bool:
        """Whether there is a sum of probabilities from which paths are listed."""
        return any(map(math.isfinite, self.shortlists))

    def describe(self) -> str:
        """Return in words which paths are suggested, or that there are not enough labels yet."""
        if not self.suggests_paths:
            labels = self.labels or max(self.support, default=0)
            needed = f"about {self.labels_needed:,}" if self.labels_needed else f"more than {2 * labels:,}"
            lists = "; where a few paths can be promised, they are listed" if self.has_shortlists else ""
            return f"not enough labels yet: {labels:,} of {needed} that calibrate{lists}"
        words = [f"{value:.2f}" if math.isfinite(value) else "never" for value in self.thresholds]
        least = words[0] if len(set(words)) == 1 else ", ".join(f"level {n} {word}" for n, word in enumerate(words, 1))
        how = "on average over versions" if self.promise == "average" else "with confidence"
        return f"paths with a probability of {least} or more; {self.target_precision:.0%} of them are right {how}"

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON-ready values; the threshold of a level that is never suggested is `null`."""
        return {
            "temperature": self.temperature,
            "thresholds": _with_null(self.thresholds),
            "target_precision": self.target_precision,
            "support": list(self.support),
            "shortlists": _with_null(self.shortlists),
            "promise": self.promise,
            "labels": self.labels,
            "labels_needed": self.labels_needed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_json` wrote. Raises ConfigError for data that is not a calibration."""
        try:
            return cls(
                temperature=float(data["temperature"]),
                thresholds=_with_infinity(data["thresholds"]),
                target_precision=float(data["target_precision"]),
                support=tuple(int(value) for value in data["support"]),
                shortlists=_with_infinity(data.get("shortlists", ())),  # an earlier release has none of the following
                promise="average" if data.get("promise") == "average" else "sure",
                labels=int(data.get("labels", 0)),
                labels_needed=int(needed) if (needed := data.get("labels_needed")) is not None else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"This is not a stored calibration: {error!r}.") from error


def _with_null(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _with_infinity(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(math.inf if value is None else float(value) for value in values)


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

    `logits` are those of held-out images, shape (n, nodes); `truths` are their accepted labels, n sequences (an image
    with an empty one is left out). At a level, the candidate is the node of the greedy path, as in `suggest`. It is
    right when a label goes through it. It is not judged when a label stops above it on the same path, because the
    deeper levels of that label are unknown; a label that stops on another path makes it wrong. The threshold is the
    lowest one for which the one-sided Wilson bound of the precision of all candidates at or above it reaches the
    target; `inf` when there is none. With `leafs_only` only leaves are candidates.

    `learned`: the nodes that the model had examples of, when it did not have examples of all. The other nodes count for
    the thresholds but not for the temperature: no temperature makes a model right about a class that it has never
    seen, and the attempt would flatten all other probabilities.

    Raises ValueError when the shapes differ, TrainingError for a label that is not in the tree.
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
            if path == NO_ANSWER:  # is never suggested
                continue
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
    """Return the labels, each cut to the nodes that the model can know."""
    known = [[[node for node in prefixes(path) if node in learned] for path in paths] for paths in truths]
    return [[nodes[-1] for nodes in paths if nodes] for paths in known]


def _lowest_threshold(scores: Sequence[float], correct: Sequence[bool], target: float, z: float) -> float:
    order = np.argsort(scores)[::-1]
    right = 0
    lowest = math.inf
    for count, index in enumerate(order, start=1):
        right += correct[index]
        next_score = scores[order[count]] if count < len(order) else -math.inf
        # Equal scores are above a threshold together or not at all.
        if next_score < scores[index] and wilson_lower_bound(right, count, z) >= target:
            lowest = scores[index]
    return lowest


def _check_known(tree: Tree, truths: Truths) -> None:
    for path in {path for paths in truths for path in paths}:
        if path not in tree:
            raise TrainingError(f'The label "{format_path(path)}" is not in the taxonomy "{tree.control}".')
