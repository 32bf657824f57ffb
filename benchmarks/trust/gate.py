"""Does the gate serve the better challengers, and only those? `python -m benchmarks.trust.gate --help`.

Each split divides a catalogue's products into those that heads learn from, those of the test images, and all others. A
champion learns from labelled images; challengers learn from them after a change. Rules decide on the test images. The
truth is the difference of hierarchical F1 on all images of the other products.

The heads are the product's discriminant. It is computed in the space that the training images span, which gives the
same head in a tenth of the time.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import TREES, Catalogue, read_catalogue, read_embeddings
from benchmarks.run import RESULTS, say
from benchmarks.trust.gate_table import write
from taxonomist.inference.heads.discriminant_weights import node_probabilities
from taxonomist.inference.heads.features import features
from taxonomist.taxonomy.comparison import PathScores, compare_paired
from taxonomist.taxonomy.comparison.paired import EVIDENCE_AGAINST, LEAST_PROBABILITY, worth_of_images
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, fit
from taxonomist.training.heads.discriminant.held_out import Folded, fit_temperature, held_out_predictions

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
KINDS: Mapping[str, str] = {
    "shuffled": "30 % of the labels change places",
    "dropped": "all labels of one class at level 2 are missing; large classes are drawn more often",
    "resampled": "as many labels are drawn from the champion's, with replacement",
    "more": "20 % more labels",
    "redrawn": "as many labels are drawn anew from the images of the same products",
    "replaced": "20 % more labels, all drawn anew from the images of the same products",
    "narrowed": "20 % more labels, but all of one class at level 2 are missing",
    "misled": "20 % more labels, and the new ones change places",
}
TEST_IMAGES = (1, 5, 20, 60, 200)
LEARNING, TESTING = 0.25, 0.2  # shares of the products
UNCLIPPED = 0.0001


@dataclass(frozen=True)
class Images:
    """Images of a two-level tree: features (n, d), the node of level 2 of each (n,), its product (n,)."""

    x: NDArray[np.float32]
    leaf: Indices
    product: NDArray[np.str_]
    parents: Indices

    @classmethod
    def of(cls, catalogue: Catalogue) -> Images:
        """Return the images of a catalogue."""
        tree = catalogue.tree
        leaf = np.array([tree.index[path] for path in catalogue.paths])
        return cls(features(catalogue.x), leaf, catalogue.products, np.asarray(tree.parents, np.int64))


@dataclass(frozen=True)
class Scores:
    """What a head predicts for n images: the nodes of both levels, and the probabilities of the true ones, (n, 2)."""

    predicted: Indices
    right: NDArray[np.bool_]
    probability: Floats

    def paths(self, rows: Indices | slice, least: float = LEAST_PROBABILITY, *, whole: bool = True) -> PathScores:
        """Return the scores of some of the images; with the log-loss of level 2 only, not of the `whole` path."""
        right = self.right[rows]
        two = np.full(len(right), 2.0)
        log_probability = np.log(np.clip(self.probability[rows, 0 if whole else 1 :], least, 1.0)).mean(axis=1)
        return PathScores(right.sum(axis=1).astype(np.float64), two, two, log_probability)


@dataclass(frozen=True)
class Learned:
    """What a head predicts: `tested` for the images that it is judged on, and `held_out` (n, nodes) for all images of
    the products that heads learn from, P(path) by a head that has learned without a tenth of these products, among them
    the image's."""

    tested: Scores
    held_out: NDArray[np.float32]


def learn(
    images: Images, rows: Indices, leaf: Indices, tested: Indices, pool: Indices, folds: NDArray[np.int64]
) -> Learned:
    """Return what the discriminant that learns from these rows, with these labels, predicts.

    `pool` are the rows of the products to learn from, `folds` (all images,) the fold of each product.
    """
    x = images.x[rows].astype(np.float64)
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = values > values[-1] * 1e-9
    basis = (vectors[:, kept] / np.sqrt(values[kept])).T @ x  # (rank, d), orthonormal
    count = len(images.parents)
    named = np.zeros(count, np.bool_)
    named[leaf] = named[images.parents[leaf]] = True
    nodes = np.flatnonzero(named)
    position = np.full(count + 1, -1, np.int64)
    position[nodes] = np.arange(len(nodes))
    stops = np.zeros((len(rows), len(nodes)), np.float32)
    stops[np.arange(len(rows)), position[leaf]] = 1
    levels = np.where(images.parents[nodes] < 0, 1, 2)
    plain = DiscriminantOptions()
    ridge = plain.shrinkage / (1 - plain.shrinkage) * len(basis) / images.x.shape[1]  # the trace is spread over fewer
    options = DiscriminantOptions(shrinkage=ridge / (1 + ridge))
    inside = (x @ basis.T).astype(np.float32)
    data = LabelledFeatures(inside, stops, stops, nodes, position[images.parents[nodes]], levels)
    own = Folded(data, folds[rows])
    all_x = np.concatenate([inside, images.x[pool] @ basis.T.astype(np.float32)])
    judged = Folded(replace(data, x=all_x), np.concatenate([folds[rows], folds[pool]]))
    unseen = list(held_out_predictions([(own, judged)], options))
    labelled = [fold.some(np.flatnonzero(fold.rows < len(rows))) for fold in unseen]
    temperature, prior_weight = fit_temperature(data, labelled, options)
    held_out = np.zeros((len(all_x), count), np.float32)
    for fold in unseen:
        scores = fold.scores(temperature, prior_weight)
        held_out[fold.rows] = node_probabilities(scores, nodes[fold.classes], images.parents)
    model = fit(data.whole, data, options)
    weight = (model.weight @ basis / temperature).astype(np.float32)
    bias = model.bias / temperature + prior_weight * model.log_prior
    scores = (images.x[tested] @ weight.T + bias).astype(np.float32)
    probabilities = node_probabilities(scores, nodes[model.classes], images.parents)
    return Learned(_scores(images.parents, images.leaf[tested], probabilities), held_out[len(rows) :])


def _scores(parents: Indices, leaf: Indices, probabilities: NDArray[np.float32]) -> Scores:
    tops, leaves = np.flatnonzero(parents < 0), np.flatnonzero(parents >= 0)
    top = tops[probabilities[:, tops].argmax(axis=1)]
    below = np.where(parents[leaves][None, :] == top[:, None], probabilities[:, leaves], -1.0)
    predicted = np.stack([top, leaves[below.argmax(axis=1)]], axis=1)
    true = np.stack([parents[leaf], leaf], axis=1)
    return Scores(predicted, predicted == true, np.take_along_axis(probabilities, true, axis=1).astype(np.float64))


def changed(
    kind: str, images: Images, pool: Indices, count: int, random: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the images and labels that a challenger of this kind learns from; the champion's are the first `count`."""
    base, new = pool[:count], random.permutation(pool[count:])
    added = round(0.2 * count)
    if kind in ("shuffled", "misled"):
        rows = base if kind == "shuffled" else np.concatenate([base, new[:added]])
        leaf = images.leaf[rows]
        moved = (
            random.choice(count, round(0.3 * count), replace=False) if kind == "shuffled" else np.arange(added) + count
        )
        leaf[moved] = leaf[random.permutation(moved)]
        return rows, leaf
    if kind in ("dropped", "narrowed"):
        dropped = images.leaf[base[random.integers(count)]]
        rows = np.concatenate([base, new]) if kind == "narrowed" else base
        rows = rows[images.leaf[rows] != dropped][: count + added]
    elif kind == "resampled":
        rows = base[random.integers(0, count, count)]
    elif kind == "more":
        rows = np.concatenate([base, new[:added]])
    else:
        rows = random.permutation(pool)[: count + (added if kind == "replaced" else 0)]
    return rows, images.leaf[rows]


def run_split(images: Images, labels: int, challengers: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each challenger and number of test images: its kind, the truth, and what each rule computes."""
    random = np.random.default_rng(seed)
    names, product = np.unique(images.product, return_inverse=True)
    place = random.permutation(len(names))[product] / len(names)
    pool = random.permutation(np.flatnonzero(place < LEARNING))
    if len(pool) < 1.2 * labels:
        raise TaxonomistError(f"{len(pool)} images are too few for {labels} labels and 20 % more.")
    testing = np.flatnonzero((place >= LEARNING) & (place < LEARNING + TESTING))
    tested = np.concatenate([testing, np.flatnonzero(place >= LEARNING + TESTING)])
    others = slice(len(testing), None)
    half = random.permutation(len(names))[product[tested]] % 2 == 0
    half[: len(testing)] = False
    rest = ~half
    rest[: len(testing)] = False
    folds = random.permutation(len(names))[product] % DiscriminantOptions().folds
    labelled = np.full(len(images.leaf), -1)  # by the champion
    labelled[pool[:labels]] = images.leaf[pool[:labels]]
    champion = learn(images, pool[:labels], images.leaf[pool[:labels]], tested, pool, folds)
    for _ in range(challengers):
        for kind in KINDS:
            learned, leaf = changed(kind, images, pool, labels, random)
            challenger = learn(images, learned, leaf, tested, pool, folds)
            gain = (challenger.tested.right.sum(axis=1) - champion.tested.right.sum(axis=1)) / 2
            trained = trained_on(images, pool, labelled, learned, leaf)
            numbers = (len(np.unique(learned)), labels)
            for count in TEST_IMAGES:
                rows = random.permutation(len(testing))[:count]
                yield {
                    "kind": kind,
                    "images": count,
                    "products": len(np.unique(product[tested[rows]])),
                    "truth": float(gain[others].mean()),
                    "halves": (float(gain[half].mean()), float(gain[rest].mean())),
                    **figures(images, tested, rows, trained, challenger, champion, numbers),
                }


@dataclass(frozen=True)
class Trained:
    """Training images of which challenger and champion do not have different labels: their rows (n,) in the images that
    heads learn from, the node of level 2 of each (n,), and its product."""

    rows: Indices
    leaf: Indices
    products: list[str]


def trained_on(images: Images, pool: Indices, labelled: Indices, learned: Indices, leaf: Indices) -> Trained:
    """Return what the training images of two heads can say. `labelled` (all images,) are the champion's labels, -1
    without one; `learned` and `leaf` are the challenger's images and labels."""
    own = np.full(len(labelled), -1)
    own[learned] = leaf
    before, after = labelled[pool], own[pool]
    rows = np.flatnonzero((before >= 0) & (after >= 0) & (before == after) | ((before < 0) != (after < 0)))
    return Trained(rows, np.maximum(before, after)[rows], images.product[pool[rows]].tolist())


def figures(
    images: Images,
    tested: Indices,
    rows: Indices,
    trained: Trained,
    challenger: Learned,
    champion: Learned,
    learned: tuple[int, int],
) -> dict[str, float]:
    """Return what the rules decide by. `learned` are the numbers of images of challenger and champion."""
    truth, products = images.leaf[tested[rows]], images.product[tested[rows]].tolist()
    true = np.stack([images.parents[truth], truth], axis=1)
    new, old = challenger.tested, champion.tested
    whole = compare_paired(new.paths(rows), old.paths(rows), products, learned)
    unclipped = compare_paired(
        new.paths(rows, UNCLIPPED, whole=False), old.paths(rows, UNCLIPPED, whole=False), products
    )
    end = compare_paired(new.paths(rows, whole=False), old.paths(rows, whole=False), products)
    new_seen, old_seen = (
        _scores(images.parents, trained.leaf, head.held_out[trained.rows]).paths(slice(None))
        for head in (challenger, champion)
    )
    training = compare_paired(new_seen, old_seen, trained.products)
    pooled = compare_paired(
        PathScores.concatenated([new.paths(rows), new_seen]),
        PathScores.concatenated([old.paths(rows), old_seen]),
        [*products, *trained.products],
    )
    return {
        "macro-F1": macro_f1(true, new.predicted[rows]) - macro_f1(true, old.predicted[rows]),
        "t_f1": whole.t_f1,
        "t_loss": whole.t_loss,
        "t_end": end.t_loss,
        "t_unclipped": unclipped.t_loss,
        "t_training": training.t_f1 + training.t_loss,
        "t_pooled": pooled.t_f1 + pooled.t_loss,
        "ratio": learned[0] / learned[1],
        "worth": worth_of_images(*learned),
    }


def macro_f1(true: Indices, predicted: Indices) -> float:
    """Return the mean over both levels of macro-F1, as `evaluate_paths` computes it; arrays (n, 2)."""
    levels = []
    for level in (0, 1):
        classes, codes = np.unique(np.concatenate([true[:, level], predicted[:, level]]), return_inverse=True)
        a, b = np.split(codes, 2)
        hits = np.bincount(a[a == b], minlength=len(classes))
        total = np.bincount(a, minlength=len(classes)) + np.bincount(b, minlength=len(classes))
        levels.append(float((2 * hits / total).mean()))
    return float(np.mean(levels))


Rule = Callable[[Mapping[str, Any]], float]
FORMER_EVIDENCE_AGAINST = 1.0
RULES: Mapping[str, Rule] = {
    "macro-F1, the first rule": lambda row: row["macro-F1"],
    "t(F1) >= 0": lambda row: row["t_f1"],
    "t(log-loss) >= 0": lambda row: row["t_unclipped"],
    "t(clipped log-loss) >= 0": lambda row: row["t_end"],
    "t(F1) + t(clipped log-loss) >= 0": lambda row: row["t_f1"] + row["t_end"],
    f"t(F1) + t(clipped log-loss) >= -{FORMER_EVIDENCE_AGAINST:g}, the rule before": lambda row: (
        row["t_f1"] + row["t_end"] + FORMER_EVIDENCE_AGAINST
    ),
    "by images: as many or more": lambda row: row["worth"],
    f"by path: t(F1) + t(log-loss of the path) >= -{EVIDENCE_AGAINST:g}": lambda row: (
        row["t_f1"] + row["t_loss"] + EVIDENCE_AGAINST
    ),
    "by path, on test and training images": lambda row: row["t_pooled"] + EVIDENCE_AGAINST,
    "by images and t(F1) + t(clipped log-loss)": lambda row: (
        row["t_f1"] + row["t_end"] + row["worth"] + EVIDENCE_AGAINST
    ),
    "**by images and path**": lambda row: row["t_f1"] + row["t_loss"] + row["worth"] + EVIDENCE_AGAINST,
    "by images and path, and a quarter of the t of training images": lambda row: (
        row["t_f1"] + row["t_loss"] + row["worth"] + row["t_training"] / 4 + EVIDENCE_AGAINST
    ),
}


def _tried(loss: str, training: float, more: float, fewer: float, most: float, against: float) -> Rule:
    def rule(row: Mapping[str, Any]) -> float:
        change = math.log(row["ratio"])
        worth = max(-most, min(most, (more if change > 0 else fewer) * change))
        return float(row["t_f1"] + row[loss] + training * row["t_training"] + worth + against)

    return rule


TRIED: Mapping[str, Rule] = {
    **RULES,
    **{
        f"{loss}, {training} of training, {more} and {fewer} by log(images), at most {most}, >= -{against}": _tried(
            loss, training, more, fewer, most, against
        )
        for loss in ("t_end", "t_loss")
        for training in (0, 0.25, 0.5, 1)
        for more, fewer, most in ((0, 0, 0), (10, 10, 2), (10, 40, 2), (12, 40, 3), (1e9, 1e9, 2))
        for against in (0, 0.5, 0.7, 1)
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.labels, options.splits, options.challengers = 40, 1, 1
    rows: list[dict[str, Any]] = []
    try:
        for tree in options.tree:
            images = Images.of(read_catalogue(options.catalogue, tree, read_embeddings(options.embeddings)))
            for number in range(options.splits):
                split = run_split(images, options.labels, options.challengers, options.seed + number)
                rows += [{"tree": tree, "seed": options.seed + number, **row} for row in split]
                say(f"{tree}: {number + 1} of {options.splits}")
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    command = (
        "python -m benchmarks.trust.gate --catalogue CATALOGUE --embeddings LITE0.npz --tree "
        f"{' '.join(options.tree)} --labels {options.labels} --splits {options.splits} --challengers "
        f"{options.challengers} --seed {options.seed}"
    )
    about = {"command": command + " --tried" * options.tried, "machine": machine(), **vars(options)}
    print(write(options.output, options.name, rows, TRIED if options.tried else RULES, KINDS, about))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.trust.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--catalogue", type=Path, required=True, metavar="FOLDER", help="as for benchmarks.promise")
    add("--embeddings", type=Path, required=True, metavar="FILE.npz", help="as for benchmarks.promise")
    add("--tree", nargs="+", choices=TREES, default=list(TREES), help="default: both")
    add("--labels", type=int, default=400, help="of the champion (default: %(default)s)")
    add("--splits", type=int, default=100, help="default: %(default)s")
    add("--challengers", type=int, default=1, help="of each kind in each split (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=7000,
        help="of the first split (default: %(default)s); the rule was chosen on 6000 to 6032",
    )
    add("--tried", action="store_true", help="also the weights and limits that the rule was chosen from")
    add("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    add("--name", default="gate", help="of the result's files (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
