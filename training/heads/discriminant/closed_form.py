"""The closed form of linear discriminant analysis on a tree: sums over labelled images, and the model of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import Indices
from taxonomist.inference.heads.features import Array, ProductProjection, features
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Targets

Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DiscriminantOptions:
    """How a discriminant is fitted. `benchmarks.promise` compares it with other heads."""

    shrinkage: float = 0.6  # share of the identity in the covariance
    parent_images: float = 2.0  # weight of the parent's mean in that of a node, in images
    folds: int = 10  # of products, for the predictions of unseen products
    carried: float = 0.5  # weight of what a product shares, in a label that is deeper than products are pure
    seed: int = 0


@dataclass(frozen=True)
class Sums:
    """Sums over images: `gram` (d, d), and by node the weights and the vectors of the labels that stop there."""

    gram: Double
    weights: Double
    vectors: Double

    def without(self, other: Sums) -> Sums:
        """Return the sums without those of some of the images."""
        return Sums(self.gram - other.gram, self.weights - other.weights, self.vectors - other.vectors)


@dataclass(frozen=True)
class LabelledFeatures:
    """Features (n, d), and labels on the nodes that have any: `nodes` are these in the tree, `parents` within them."""

    x: Array
    stops: Targets  # (n, nodes)
    labels: Targets  # (n, nodes), as they were given
    nodes: Indices
    parents: Indices
    levels: Indices

    @classmethod
    def of(
        cls, embeddings: Array, stops: Targets, tree: Tree, space: ProductProjection | None = None
    ) -> LabelledFeatures:
        """Return the features of embeddings (n, d), with the nodes (n, nodes of the tree) where their labels stop."""
        named = np.zeros(len(tree), np.bool_)
        for node in np.flatnonzero(stops.any(axis=0)):
            named[list(tree.ancestors(int(node)))] = True
        nodes = np.flatnonzero(named).astype(np.int64)
        position = np.full(len(tree) + 1, -1, np.int64)  # the last one stands for no parent
        position[nodes] = np.arange(len(nodes))
        own = stops[:, nodes]
        return cls(features(embeddings, space), own, own, nodes, position[tree.parents[nodes]], tree.levels[nodes])

    @cached_property
    def whole(self) -> Sums:
        """The sums over all images."""
        return self.sums(np.ones(len(self.x), np.bool_))

    @cached_property
    def classes(self) -> Indices:
        """The nodes with labels and without a child that has any."""
        return self.classes_of(self.below(self.whole.weights))

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

    def sums(self, rows: npt.NDArray[np.bool_]) -> Sums:
        """Return the sums over some of the images."""
        x, stops = self.x[rows], self.stops[rows]
        weighted = x * np.sqrt(stops.sum(axis=1, keepdims=True))
        gram = (weighted.T @ weighted).astype(np.float64)  # of one array with itself: BLAS computes half of it
        return Sums(gram, stops.sum(axis=0, dtype=np.float64), (stops.T @ x).astype(np.float64))

    def carried(self, means: Array, owners: Indices, depth: int, share: float) -> tuple[LabelledFeatures, Indices]:
        """Return what is learned where the mean features of products are known, and the image of each row.

        `means` (n, d) are those of each image's product, `owners` (n,) the number of the product. The label of an image
        down to `depth` is one of the mean, and the labelled images of a product together have the weight 1. Of a label
        that goes deeper, the beginning is one of the mean with `share` of its weight, the whole one of the image with
        the rest.
        """
        shared, own = self.stops.copy(), self.stops.copy()
        own[:, self.levels <= depth] = 0
        own *= 1 - share
        for level in range(int(self.levels.max()), depth, -1):
            nodes = np.flatnonzero(self.levels == level)
            np.add.at(shared.T, self.parents[nodes], shared.T[nodes] * (share if level == depth + 1 else 1))
            shared[:, nodes] = 0
        shared /= np.bincount(owners)[owners, None]
        parts = [(data, np.flatnonzero(data.any(axis=1))) for data in (shared, own)]
        stops = np.concatenate([data[rows] for data, rows in parts])
        x = np.concatenate([vectors[rows] for vectors, (_, rows) in zip((means, self.x), parts, strict=True)])
        rows = np.concatenate([rows for _, rows in parts])
        return LabelledFeatures(x, stops, stops, self.nodes, self.parents, self.levels), rows

    def spread(self, rows: Indices, classes: Indices, scores: Array) -> LabelledFeatures:
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
        return LabelledFeatures(self.x, stops, self.labels, self.nodes, self.parents, self.levels)


@dataclass(frozen=True)
class Model:
    """Log-likelihoods are `x @ weight.T + bias`; `classes` are nodes of the data, `log_prior` theirs."""

    weight: Double
    bias: Double
    log_prior: Double
    classes: Indices

    def likelihoods(self, x: Array) -> Array:
        """Return the log-likelihood of each class, shape (n, classes), up to a constant of each image."""
        values = x @ self.weight.T + self.bias
        highest: Array = (values - values.max(axis=1, keepdims=True)).astype(np.float32)
        return highest


def fit(sums: Sums, data: LabelledFeatures, options: DiscriminantOptions) -> Model:
    """Return the model of the images that are in the sums; `data` has the tree."""
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
    return Model(weight, bias, _log_prior(counts, data)[classes], classes)


def _means(counts: Double, totals: Double, data: LabelledFeatures, parent_images: float) -> Double:
    """Return the means (nodes, d), each shrunk towards that of the parent, at level 1 towards that of all images."""
    top = data.parents < 0
    overall = totals[top].sum(axis=0) / max(counts[top].sum(), 1e-12)
    means = np.empty_like(totals)
    for level in range(1, int(data.levels.max()) + 1):
        nodes = np.flatnonzero(data.levels == level)
        above = overall if level == 1 else means[data.parents[nodes]]
        images = np.maximum(counts[nodes] + parent_images, 1e-12)
        means[nodes] = (totals[nodes] + parent_images * above) / images[:, None]
    return means


def _log_prior(counts: Double, data: LabelledFeatures) -> Double:
    """Return log P(node): labels that stop at a node are spread over its labelled children by their counts."""
    log_prior = np.full(len(counts), -np.inf)
    siblings = np.zeros(len(counts) + 1)  # by parent; the last one is the level without a parent
    np.add.at(siblings, data.parents, counts)
    for level in range(1, int(data.levels.max()) + 1):
        nodes = np.flatnonzero((data.levels == level) & (counts > 1e-6))
        above = log_prior[data.parents[nodes]] if level > 1 else 0.0
        log_prior[nodes] = above + np.log(counts[nodes] / siblings[data.parents[nodes]])
    return log_prior
