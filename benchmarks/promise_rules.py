"""One split of the promise's table: suggestions for products that no training saw, by the promise and other rules."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.promise_catalogue import CONTROL, Catalogue
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.calibration import Calibration, Promise, fit_calibration, fit_promise, fit_shortlists
from taxonomist.taxonomy.path_probabilities import FloatArray, path_log_probabilities
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.suggestion import suggest_each
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import HeadData, Outputs, stops
from taxonomist.training.heads.discriminant.choose_space import better_learning
from taxonomist.training.heads.discriminant.fit_discriminant import FittedDiscriminant
from taxonomist.training.product_space import TaughtSpace
from taxonomist.training.split import Item, split_validation

CONFIDENCE = 0.8
RULES = ("promise", "lists", "help", "today", "top1", "fixed", "average", "average-help")
PROMISES: Mapping[Promise, Sequence[str]] = {
    "sure": ("promise", "lists", "help"),
    "average": ("average", "average-help"),
}
"""The rules of each promise: the first has paths, the last paths and lists."""
_FIXED = 0.5


@dataclass(frozen=True)
class Images:
    """Some images of a catalogue: embeddings (n, d), and the path and the product of each.

    `taught` is the space that products have taught which no image to test on shows, where a head may learn in it.
    """

    x: NDArray[np.float32]
    paths: tuple[TaxonomyPath, ...]
    products: tuple[str, ...]
    taught: TaughtSpace | None = None

    @classmethod
    def split(cls, catalogue: Catalogue, labels: int, test_share: float, seed: int) -> tuple[Images, Images]:
        """Return the images with labels and those to test on. All other products teach the space, as in a training."""
        learning, testing = (cls.of(catalogue, rows) for rows in catalogue.split(labels, test_share, seed))
        return replace(learning, taught=catalogue.taught(test_share, seed)), testing

    @classmethod
    def of(cls, catalogue: Catalogue, rows: NDArray[np.int64]) -> Images:
        """Return the images of these rows."""
        paths = tuple(catalogue.paths[row] for row in rows)
        return cls(catalogue.x[rows], paths, tuple(catalogue.products[rows].tolist()))

    def some(self, rows: Iterable[int]) -> Images:
        """Return some of the images."""
        rows = list(rows)
        paths = tuple(self.paths[row] for row in rows)
        return replace(self, x=self.x[rows], paths=paths, products=tuple(self.products[row] for row in rows))

    @property
    def truths(self) -> list[tuple[TaxonomyPath]]:
        """Return the accepted labels of each image."""
        return [(path,) for path in self.paths]


def run_rules(
    catalogue: Catalogue, *, part: str, labels: int, targets: Sequence[float], test_share: float, seed: int
) -> dict[str, Any]:
    """Return the counts of suggestions by rule and target; `part` is "lda" (its rules share one head) or "today"."""
    learning, testing = Images.split(catalogue, labels, test_share, seed)
    began = time.process_time()
    if part == "today":
        found: dict[str, Any] = {"rows": _today(catalogue, learning, testing, targets, seed)}
    else:
        found = _lda(catalogue, learning, testing, targets)
    return found | {"seconds": round(time.process_time() - began, 3)}


def _lda(catalogue: Catalogue, learning: Images, testing: Images, targets: Sequence[float]) -> dict[str, Any]:
    tree = catalogue.tree
    fitted = fit(learning, tree)
    probabilities = fitted.weights.probabilities(testing.x)
    rows = []
    for rule, threshold in (("top1", 1e-9), ("fixed", _FIXED)):  # without labels below it, a node has probability 0
        calibration = Calibration(1.0, (threshold,) * tree.depth, 0.0, (0,) * tree.depth)
        counts = counted(catalogue, testing, shown(tree, probabilities, calibration))
        rows += [{"rule": rule, "target": target, **counts} for target in targets]
    for target, promise in itertools.product(targets, PROMISES):
        calibration = fit_promise(
            tree,
            fitted.held_out,
            learning.truths,
            learning.products,
            target_precision=target,
            confidence=CONFIDENCE,
            promise=promise,
        )
        calibration = fit_shortlists(
            tree, fitted.held_out, learning.truths, learning.products, calibration, confidence=CONFIDENCE
        )
        both = shown(tree, probabilities, calibration)
        paths, lists = (
            [found if found and found.is_list == which else None for found in both] for which in (False, True)
        )
        names = PROMISES[promise]
        counts = counted(catalogue, testing, paths)
        rows.append({"rule": names[0], "target": target, "threshold": _finite(calibration.thresholds)[0], **counts})
        if len(names) > 2:
            counts = counted(catalogue, testing, lists)
            rows.append({"rule": names[1], "target": target, "thresholds": _finite(calibration.shortlists), **counts})
        rows.append({"rule": names[-1], "target": target, **counted(catalogue, testing, both)})
    return {"rows": rows, "space": fitted.weights.space is not None}


def _today(
    catalogue: Catalogue, learning: Images, testing: Images, targets: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    tree = catalogue.tree
    head = train_today(learning, tree, seed)
    rows = []
    for target in targets:
        calibration = head.calibration(tree, target)
        probabilities = head.probabilities(testing.x, tree, calibration)
        counts = counted(catalogue, testing, shown(tree, probabilities, calibration))
        rows.append({"rule": "today", "target": target, **counts})
    return rows


def fit(learning: Images, tree: Tree) -> FittedDiscriminant:
    """Return the product's discriminant, in the space that products have taught where labels are likelier there."""
    targets = stops(tree, learning.truths)
    return better_learning(learning.x, targets, learning.products, tree, taught=learning.taught)[0].fitted()


@dataclass(frozen=True)
class Today:
    """The head "mlp", what it calibrates on, and the nodes that it has learned."""

    weights: HeadWeights
    validation: Images
    learned: frozenset[TaxonomyPath]

    def calibration(self, tree: Tree, target: float) -> Calibration:
        """Return temperature and thresholds by today's rule."""
        return fit_calibration(
            tree,
            self.weights.logits(self.validation.x)[CONTROL],
            self.validation.truths,
            target_precision=target,
            confidence=CONFIDENCE,
            learned=self.learned,
        )

    def probabilities(self, x: NDArray[np.float32], tree: Tree, calibration: Calibration) -> FloatArray:
        """Return P(path) of every node, shape (n, nodes)."""
        logits = self.weights.logits(x)[CONTROL] / calibration.temperature
        return np.exp(path_log_probabilities(logits, tree))


def train_today(learning: Images, tree: Tree, seed: int) -> Today:
    """Train the head "mlp" on the labels, a fifth of which stop and calibrate it; without augmented views."""
    from taxonomist.training.heads.head import HeadOptions, train_head

    items = [
        Item(str(number), product, None, path[0], frozenset((CONTROL, *node) for node in prefixes(path)))
        for number, (path, product) in enumerate(zip(learning.paths, learning.products, strict=True))
    ]
    outputs = Outputs((tree,))
    training, validation = (learning.some(rows) for rows in split_validation(items))
    data, held_out = (
        HeadData.plain(images.x, outputs.encode([{CONTROL: paths} for paths in images.truths]))
        for images in (training, validation)
    )
    trained = train_head(data, outputs, HeadOptions(threads=1, seed=seed), held_out)
    learned = frozenset(node for path in training.paths for node in prefixes(path))
    return Today(trained.weights, validation, learned)


@dataclass(frozen=True)
class Shown:
    """What an image gets: one path, or those of a shortlist, best first."""

    paths: tuple[TaxonomyPath, ...]
    is_list: bool


def shown(tree: Tree, probabilities: FloatArray, calibration: Calibration) -> list[Shown | None]:
    """Return for each row of P(path) (n, nodes) the path or the shortlist."""
    return [
        Shown(suggestion.shortlist or (suggestion.path,), bool(suggestion.shortlist)) if suggestion else None
        for suggestion in suggest_each(tree, probabilities, calibration)
    ]


def counted(catalogue: Catalogue, testing: Images, found: Sequence[Shown | None]) -> dict[str, Any]:
    """Return the numbers of images, of those with a suggestion and of right ones, and the sums of levels and sizes.

    A suggestion is right when the label goes through it, or through a path of its list. Level and `nodes` are those of
    the likeliest path. `nodes` has right ones and all by the level-1 node, `new` those for products that the starter
    has not seen.
    """
    right = suggested = levels = sizes = 0
    nodes: dict[str, list[int]] = {}
    new = [0, 0]
    for suggestion, path, product in zip(found, testing.paths, testing.products, strict=True):
        if suggestion is None:
            continue
        is_right = any(path[: len(node)] == node for node in suggestion.paths)
        first = suggestion.paths[0]
        suggested += 1
        right += is_right
        levels += len(first)
        sizes += len(suggestion.paths)
        for pair in (nodes.setdefault(first[0], [0, 0]), *([new] if product in catalogue.new else [])):
            pair[0] += is_right
            pair[1] += 1
    return {
        "images": len(testing.paths),
        "suggested": suggested,
        "right": right,
        "levels": levels,
        "sizes": sizes,
        "nodes": nodes,
        "new": new,
    }


def _finite(thresholds: Sequence[float]) -> list[float | None]:
    return [threshold if np.isfinite(threshold) else None for threshold in thresholds]
