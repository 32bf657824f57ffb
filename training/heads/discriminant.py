"""Linear discriminant analysis on a tree, in closed form: a head that needs no epochs and no validation part.

Each class is a normal distribution around its mean; all share one covariance, which is shrunk towards a multiple of the
identity (Friedman 1989, Regularized discriminant analysis, https://doi.org/10.1080/01621459.1989.10478752). The mean of
a node is shrunk towards that of its parent, so that a class of few images is near its siblings. The classes are the
nodes below which no label goes.

Normal distributions are too sure of themselves on embeddings, so log P(class) = likelihood / temperature + weight * log
prior, with both numbers fitted on predictions for products that the model did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Array, Discriminant, Indices, features, node_probabilities
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets

_PRIOR_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LOG_TEMPERATURES = (np.log(0.5), np.log(2000.0))
_MOST_FITTED = 2000  # images on which temperature and prior weight are fitted
_GOLDEN = (5**0.5 - 1) / 2
Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DiscriminantOptions:
    """How a discriminant is fitted. The constants were measured: see `benchmarks.promise`."""

    shrinkage: float = 0.6  # share of the identity in the covariance
    parent_images: float = 2.0  # weight of the parent's mean in that of a node, in images
    folds: int = 10  # of products, for the predictions of unseen products
    seed: int = 0


@dataclass(frozen=True)
class FittedDiscriminant:
    """A discriminant, and what it predicts for its own images without their products.

    `held_out` (n, nodes) is P(path) of every node: for each image by a model that learned from other products only.
    """

    weights: Discriminant
    temperature: float
    prior_weight: float
    held_out: Array


def fit_discriminant(
    embeddings: Array,
    stops: Targets,
    products: Sequence[str],
    tree: Tree,
    options: DiscriminantOptions | None = None,
) -> FittedDiscriminant:
    """Fit a discriminant to embeddings (n, d) of images and the nodes at which their labels stop.

    `stops` (n, nodes) has the weight of each node, with the sum 1 for each image: several labels share it. A label that
    stops above other labels says nothing about the levels below: it is spread over the classes below it as the model
    sees the image (one step of expectation maximisation). Images of one of the `products` are held out together.

    Raises TrainingError without a label, and for an embedding that is not finite.
    """
    options = options or DiscriminantOptions()
    if not stops.any():
        raise TrainingError(f"There is no label of {tree.control} to learn from.")
    if not np.isfinite(embeddings).all():
        raise TrainingError(
            "An embedding is not finite.", hint="Delete the folder of embeddings; the images are embedded again."
        )
    data = _Data.of(embeddings, stops, tree)
    folds = _folds(products, options)
    held_out = list(_held_out(data, folds, options))
    temperature, prior_weight = _fit_temperature(data, held_out, options)
    if len(inner := data.inner_rows):
        model = _fit(data.sums(np.ones(len(data.x), np.bool_)), data, options)
        scores = model.scores(data.x[inner], temperature, prior_weight)
        data = data.spread(inner, model.classes, scores)
        held_out = list(_held_out(data, folds, options))
        temperature, prior_weight = _fit_temperature(data, held_out, options)
    model = _fit(data.sums(np.ones(len(data.x), np.bool_)), data, options)
    parents = np.asarray(tree.parents, np.int64)
    unseen = np.zeros((len(data.x), len(tree)), np.float32)
    for fold in held_out:
        scores = fold.scores(temperature, prior_weight)
        unseen[fold.rows] = node_probabilities(scores, data.nodes[fold.classes], parents)
    return FittedDiscriminant(
        Discriminant(
            (model.weight / temperature).astype(np.float32),
            (model.bias / temperature + prior_weight * model.log_prior).astype(np.float32),
            data.nodes[model.classes],
            parents,
        ),
        temperature,
        prior_weight,
        unseen,
    )


@dataclass(frozen=True)
class _Sums:
    """Sums over images: `gram` (d, d), and by node the weights and the vectors of the labels that stop there."""

    gram: Double
    weights: Double
    vectors: Double

    def without(self, other: _Sums) -> _Sums:
        return _Sums(self.gram - other.gram, self.weights - other.weights, self.vectors - other.vectors)


@dataclass(frozen=True)
class _Data:
    """Features (n, d), and labels on the nodes that have any: `nodes` are these in the tree, `parents` within them."""

    x: Array
    stops: Targets  # (n, nodes)
    labels: Targets  # (n, nodes), as they were given
    nodes: Indices
    parents: Indices
    levels: Indices

    @classmethod
    def of(cls, embeddings: Array, stops: Targets, tree: Tree) -> _Data:
        named = np.zeros(len(tree), np.bool_)
        for node in np.flatnonzero(stops.any(axis=0)):
            named[list(tree.ancestors(int(node)))] = True
        nodes = np.flatnonzero(named).astype(np.int64)
        position = np.full(len(tree) + 1, -1, np.int64)  # the last one stands for no parent
        position[nodes] = np.arange(len(nodes))
        own = stops[:, nodes]
        return cls(features(embeddings), own, own, nodes, position[tree.parents[nodes]], tree.levels[nodes])

    @cached_property
    def classes(self) -> Indices:
        return self.classes_of(self.below(self.stops.sum(axis=0, dtype=np.float64)))

    @cached_property
    def inner_rows(self) -> Indices:
        """The images with a label that stops above a class."""
        is_inner = np.ones(len(self.nodes), np.bool_)
        is_inner[self.classes] = False
        return np.flatnonzero(self.labels[:, is_inner].any(axis=1))

    def below(self, values: npt.NDArray[np.floating]) -> Double:
        """Return sums (nodes, ...) over each node and all below it."""
        sums = values.astype(np.float64)
        for level in range(int(self.levels.max()), 1, -1):
            nodes = np.flatnonzero(self.levels == level)
            np.add.at(sums, self.parents[nodes], sums[nodes])
        return sums

    def classes_of(self, counts: Double) -> Indices:
        """Return the nodes with labels and without a child that has any; `counts` (nodes,) are those of `below`."""
        has_labels = counts > 1e-6
        has_child = np.zeros(len(self.nodes), np.bool_)
        children = np.flatnonzero(has_labels & (self.parents >= 0))
        has_child[self.parents[children]] = True
        return np.flatnonzero(has_labels & ~has_child)

    def ancestry(self, classes: Indices) -> npt.NDArray[np.bool_]:
        """Return (nodes, classes): whether a class is at or below a node."""
        found = np.zeros((len(self.nodes), len(classes)), np.bool_)
        current: Indices = classes
        columns: Indices = np.arange(len(classes))
        while len(current):
            found[current, columns] = True
            above = self.parents[current]
            current, columns = above[above >= 0], columns[above >= 0]
        return found

    def sums(self, rows: npt.NDArray[np.bool_]) -> _Sums:
        x, stops = self.x[rows], self.stops[rows]
        return _Sums(
            (x.T @ x).astype(np.float64), stops.sum(axis=0, dtype=np.float64), (stops.T @ x).astype(np.float64)
        )

    def spread(self, rows: Indices, classes: Indices, scores: Array) -> _Data:
        """Return the data with the labels of these images that stop above classes spread over them."""
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))  # (rows, classes)
        ancestry = self.ancestry(classes)
        stops = self.stops.copy()
        is_class = np.zeros(len(self.nodes), np.bool_)
        is_class[classes] = True
        for row, likelihood in zip(rows, likelihoods, strict=True):
            for node in np.flatnonzero((self.labels[row] > 0) & ~is_class):
                share = likelihood * ancestry[node] + np.finfo(np.float32).tiny * ancestry[node]
                stops[row, classes] += stops[row, node] * share / share.sum()
                stops[row, node] = 0
        return _Data(self.x, stops, self.labels, self.nodes, self.parents, self.levels)


@dataclass(frozen=True)
class _Model:
    """Log-likelihoods are `x @ weight.T + bias`; `classes` are nodes of the data, `log_prior` theirs."""

    weight: Double
    bias: Double
    log_prior: Double
    classes: Indices

    def scores(self, x: Array, temperature: float, prior_weight: float) -> Array:
        scores: Array = ((x @ self.weight.T + self.bias) / temperature + prior_weight * self.log_prior).astype(
            np.float32
        )
        return scores


def _fit(sums: _Sums, data: _Data, options: DiscriminantOptions) -> _Model:
    count, dimension = sums.weights.sum(), sums.gram.shape[0]
    counts, totals = data.below(sums.weights), data.below(sums.vectors)
    means = _means(counts, totals, data, options.parent_images)
    classes = data.classes_of(counts)
    stops = sums.weights > 1e-6
    roots = sums.vectors[stops] / np.sqrt(sums.weights[stops])[:, None]
    scatter = sums.gram - roots.T @ roots  # within the nodes where labels stop
    ridge = options.shrinkage / (1 - options.shrinkage) * max(np.trace(scatter) / dimension, 1e-9)
    scatter.flat[:: dimension + 1] += ridge
    weight = np.linalg.solve(scatter, means[classes].T).T * (count / (1 - options.shrinkage))
    bias = -0.5 * np.einsum("kd,kd->k", weight, means[classes])
    return _Model(weight, bias, _log_prior(counts, data)[classes], classes)


def _means(counts: Double, totals: Double, data: _Data, parent_images: float) -> Double:
    """Return the means (nodes, d), each shrunk towards that of the parent, at level 1 towards that of all images."""
    top = data.parents < 0
    overall = totals[top].sum(axis=0) / max(counts[top].sum(), 1e-12)
    means = np.empty_like(totals)
    for level in range(1, int(data.levels.max()) + 1):
        nodes = np.flatnonzero(data.levels == level)
        above = overall if level == 1 else means[data.parents[nodes]]
        means[nodes] = (totals[nodes] + parent_images * above) / np.maximum(counts[nodes] + parent_images, 1e-12)[
            :, None
        ]
    return means


def _log_prior(counts: Double, data: _Data) -> Double:
    """Return log P(node): labels that stop at a node are spread over its labelled children by their counts."""
    log_prior = np.full(len(counts), -np.inf)
    siblings = np.zeros(len(counts) + 1)  # by parent; the last one is the level without a parent
    np.add.at(siblings, data.parents, counts)
    for level in range(1, int(data.levels.max()) + 1):
        nodes = np.flatnonzero((data.levels == level) & (counts > 1e-6))
        above = log_prior[data.parents[nodes]] if level > 1 else 0.0
        log_prior[nodes] = above + np.log(counts[nodes] / siblings[data.parents[nodes]])
    return log_prior


@dataclass(frozen=True)
class _HeldOut:
    """What a model predicts for the images `rows`, of whose products it saw none."""

    rows: Indices
    likelihoods: Array  # (rows, classes), the largest of each row is 0
    log_prior: Array
    classes: Indices

    def scores(self, temperature: float, prior_weight: float) -> Array:
        scores: Array = self.likelihoods / np.float32(temperature) + np.float32(prior_weight) * self.log_prior
        return scores


def _folds(products: Sequence[str], options: DiscriminantOptions) -> npt.NDArray[np.int64]:
    """Return the fold (n,) of each image; images of one product are in one fold."""
    names, inverse = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
    order = np.random.default_rng(options.seed).permutation(len(names))
    fold: npt.NDArray[np.int64] = (order % min(options.folds, len(names)))[inverse]
    return fold


def _held_out(data: _Data, folds: npt.NDArray[np.int64], options: DiscriminantOptions) -> Iterator[_HeldOut]:
    whole = data.sums(np.ones(len(data.x), np.bool_))
    for fold in range(int(folds.max()) + 1):
        rows = folds == fold
        rest = whole.without(data.sums(rows))
        if not len(data.classes_of(data.below(rest.weights))):
            continue
        model = _fit(rest, data, options)
        likelihoods = data.x[rows] @ model.weight.T + model.bias
        likelihoods -= likelihoods.max(axis=1, keepdims=True)
        yield _HeldOut(
            np.flatnonzero(rows), likelihoods.astype(np.float32), model.log_prior.astype(np.float32), model.classes
        )


def _fit_temperature(data: _Data, held_out: Sequence[_HeldOut], options: DiscriminantOptions) -> tuple[float, float]:
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
    data: _Data, held_out: Sequence[_HeldOut], options: DiscriminantOptions
) -> list[tuple[_HeldOut, npt.NDArray[np.bool_]]]:
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
            parts.append(
                (
                    _HeldOut(fold.rows[kept], fold.likelihoods[kept], fold.log_prior, fold.classes),
                    truths[usable],
                )
            )
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
