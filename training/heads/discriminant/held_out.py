"""Predictions for images by models that saw none of their products, and temperature and prior weight fitted on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Indices
from taxonomist.inference.heads.features import Array
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, Model, fit

_PRIOR_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LOG_TEMPERATURES = (np.log(0.5), np.log(2000.0))
_MOST_FITTED = 2000  # images on which temperature and prior weight are fitted
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for the images `rows`; the other fields are as in `Model`."""

    rows: Indices
    likelihoods: Array
    log_prior: Array
    classes: Indices

    def scores(self, temperature: float, prior_weight: float) -> Array:
        """Return log P(class), shape (rows, classes), up to a constant of each image."""
        scores: Array = self.likelihoods / np.float32(temperature) + np.float32(prior_weight) * self.log_prior
        return scores

    def some(self, positions: Indices) -> Predictions:
        """Return the predictions for some of the images."""
        return Predictions(self.rows[positions], self.likelihoods[positions], self.log_prior, self.classes)


@dataclass(frozen=True)
class Folded:
    """Labelled features, and the fold (n,) of each row; images of one product are in one fold."""

    data: LabelledFeatures
    folds: npt.NDArray[np.int64]


def folds_of(
    products: Sequence[str], options: DiscriminantOptions, shares: Mapping[str, int] | None = None, parts: int = 1
) -> npt.NDArray[np.int64]:
    """Return the fold (n,) of each image; images of one product are in one fold.

    `shares` has the number of the fold, of `parts`, by product, of those that must be in it.
    """
    names, inverse = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
    order = np.random.default_rng(options.seed).permutation(len(names))
    fold: npt.NDArray[np.int64] = order % (parts if shares else min(options.folds, len(names)))
    if shares:
        own = np.array([shares.get(name, -1) for name in names.tolist()])
        fold = np.where(own < 0, fold, own)
    return fold[inverse]


def held_out_predictions(parts: Sequence[tuple[Folded, Folded]], options: DiscriminantOptions) -> Iterator[Predictions]:
    """Yield what models that learn without a fold predict for the images that are judged in it.

    `parts` are what is learned and what is judged, the same images in one space, or in one for each fold. Nothing is
    predicted where nothing is left to learn from.
    """
    for fold in range(int(parts[0][0].folds.max()) + 1):
        learned, judged = parts[fold if len(parts) > 1 else 0]
        if not (judged.folds == fold).any():
            continue
        rest = learned.data.whole.without(learned.data.sums(learned.folds == fold))
        if len(learned.data.classes_of(learned.data.below(rest.weights))):
            model = fit(rest, learned.data, options)
            yield predictions(model, judged.data, np.flatnonzero(judged.folds == fold))


def predictions(model: Model, data: LabelledFeatures, rows: Indices) -> Predictions:
    """Return what a model predicts for some images."""
    return Predictions(rows, model.likelihoods(data.x[rows]), model.log_prior.astype(np.float32), model.classes)


def fit_temperature(
    data: LabelledFeatures, held_out: Sequence[Predictions], options: DiscriminantOptions
) -> tuple[float, float]:
    """Return the temperature and the weight of the prior with the least log-loss of held-out labels.

    A label counts down to the deepest node that the fold's model knows.
    """
    parts = _sampled(data, held_out, options)
    if not parts:
        return 1.0, 1.0

    def loss(prior_weight: float, log_temperature: float) -> float:
        total = 0.0
        for fold, truths in parts:
            scores = fold.scores(float(np.exp(log_temperature)), prior_weight)
            likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
            right = (likelihoods * truths).sum(axis=1) / likelihoods.sum(axis=1)
            total -= float(np.log(np.maximum(right, 1e-12)).sum())
        return total

    best = (np.inf, 1.0, 1.0)
    low, high = _LOG_TEMPERATURES
    for prior_weight in _PRIOR_WEIGHTS:
        log_temperature, found = _least(partial(loss, prior_weight), low, high)
        low, high = log_temperature - 1.2, log_temperature + 1.2  # the next one is near
        best = min(best, (found, float(np.exp(log_temperature)), prior_weight))
    return best[1], best[2]


def _sampled(
    data: LabelledFeatures, held_out: Sequence[Predictions], options: DiscriminantOptions
) -> list[tuple[Predictions, npt.NDArray[np.bool_]]]:
    """Return the folds with some of their images, and (images, classes): which classes agree with the labels."""
    random = np.random.default_rng(options.seed)
    share = min(1.0, _MOST_FITTED / max(1, sum(len(fold.rows) for fold in held_out)))
    parts = []
    for fold in held_out:
        chosen = np.flatnonzero(random.random(len(fold.rows)) < share)
        ancestry = data.ancestry(fold.classes)
        known = set(np.flatnonzero(ancestry.any(axis=1)).tolist())
        truths = np.zeros((len(chosen), len(fold.classes)), np.bool_)
        for number, row in enumerate(fold.rows[chosen]):
            for node in np.flatnonzero(data.labels[row]):
                while node >= 0 and node not in known:
                    node = data.parents[node]
                if node >= 0:
                    np.logical_or(truths[number], ancestry[node], out=truths[number])
        usable = np.flatnonzero(truths.any(axis=1))
        if len(usable):
            kept = chosen[usable]
            parts.append((fold.some(kept), truths[usable]))
    return parts


def _least(function: Callable[[float], float], low: float, high: float, steps: int = 18) -> tuple[float, float]:
    """Return where a function with one minimum is smallest between two numbers, and its value (golden section)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2, min(at_left, at_right)
