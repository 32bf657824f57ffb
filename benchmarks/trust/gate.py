"""Does the gate serve the better challengers, and only those? `python -m benchmarks.trust.gate --help`.

Each split divides a catalogue's products into those that heads learn from, those of the test images, and all others. A
champion learns from labelled images; challengers learn from them after a change. Rules decide on the test images. The
truth is the difference of hierarchical F1 on all images of the other products.

The heads are the product's discriminant. It is computed in the space that the training images span, which gives the
same head in a tenth of the time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import TREES, Catalogue, read_catalogue, read_embeddings
from benchmarks.run import RESULTS, say
from benchmarks.trust.gate_table import write
from taxonomist.inference.heads.discriminant_weights import features, node_probabilities
from taxonomist.taxonomy.comparison import PathScores, compare_paired
from taxonomist.taxonomy.comparison.paired import EVIDENCE_AGAINST, LEAST_PROBABILITY
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions, LabelledFeatures, fit
from taxonomist.training.heads.discriminant.held_out import Folded, fit_temperature, folds_of, held_out_predictions

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
KINDS: Mapping[str, str] = {
    "shuffled": "30 % of the labels change places",
    "dropped": "all labels of one class at level 2 are missing; large classes are drawn more often",
    "resampled": "as many labels are drawn from the champion's, with replacement",
    "more": "20 % more labels",
    "redrawn": "as many labels are drawn anew from the images of the same products",
}
TEST_IMAGES = (1, 5, 20, 60, 200)
LEARNING, TESTING = 0.25, 0.2  # shares of the products
CLIPS = (0.0001, 0.001, 0.01, 0.03, 0.1)


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

    def paths(self, rows: Indices | slice, least: float = LEAST_PROBABILITY) -> PathScores:
        """Return the scores of some of the images."""
        right = self.right[rows]
        two = np.full(len(right), 2.0)
        log_probability = np.log(np.clip(self.probability[rows, 1], least, 1.0))
        return PathScores(right.sum(axis=1).astype(np.float64), two, two, log_probability)


def learn(images: Images, rows: Indices, leaf: Indices, tested: Indices) -> Scores:
    """Return what the discriminant that learns from these rows, with these labels, predicts for the `tested` rows."""
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
    own = Folded(data, folds_of(images.product[rows].tolist(), options))
    temperature, prior_weight = fit_temperature(data, list(held_out_predictions(own, own, options)), options)
    model = fit(data.whole, data, options)
    weight = (model.weight @ basis / temperature).astype(np.float32)
    bias = model.bias / temperature + prior_weight * model.log_prior
    scores = (images.x[tested] @ weight.T + bias).astype(np.float32)
    return _scores(images, tested, node_probabilities(scores, nodes[model.classes], images.parents))


def _scores(images: Images, tested: Indices, probabilities: NDArray[np.float32]) -> Scores:
    tops, leaves = np.flatnonzero(images.parents < 0), np.flatnonzero(images.parents >= 0)
    top = tops[probabilities[:, tops].argmax(axis=1)]
    below = np.where(images.parents[leaves][None, :] == top[:, None], probabilities[:, leaves], -1.0)
    predicted = np.stack([top, leaves[below.argmax(axis=1)]], axis=1)
    true = np.stack([images.parents[images.leaf[tested]], images.leaf[tested]], axis=1)
    return Scores(predicted, predicted == true, np.take_along_axis(probabilities, true, axis=1).astype(np.float64))


def changed(
    kind: str, images: Images, pool: Indices, count: int, random: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the images and labels that a challenger of this kind learns from; the champion's are the first `count`."""
    base = pool[:count]
    if kind == "shuffled":
        leaf = images.leaf[base]
        moved = random.choice(count, round(0.3 * count), replace=False)
        leaf[moved] = leaf[random.permutation(moved)]
        return base, leaf
    if kind == "dropped":
        dropped = images.leaf[base[random.integers(count)]]
        rows = base[images.leaf[base] != dropped]
    elif kind == "resampled":
        rows = base[random.integers(0, count, count)]
    elif kind == "more":
        rows = np.concatenate([base, random.permutation(pool[count:])[: round(0.2 * count)]])
    else:
        rows = random.permutation(pool)[:count]
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
    champion = learn(images, pool[:labels], images.leaf[pool[:labels]], tested)
    for _ in range(challengers):
        for kind in KINDS:
            challenger = learn(images, *changed(kind, images, pool, labels, random), tested)
            gain = (challenger.right.sum(axis=1) - champion.right.sum(axis=1)) / 2
            for count in TEST_IMAGES:
                rows = random.permutation(len(testing))[:count]
                yield {
                    "kind": kind,
                    "images": count,
                    "products": len(np.unique(product[tested[rows]])),
                    "truth": float(gain[others].mean()),
                    "halves": (float(gain[half].mean()), float(gain[rest].mean())),
                    **figures(images, tested, rows, challenger, champion),
                }


def figures(images: Images, tested: Indices, rows: Indices, challenger: Scores, champion: Scores) -> dict[str, float]:
    """Return what the rules decide by."""
    truth, products = images.leaf[tested[rows]], images.product[tested[rows]].tolist()
    true = np.stack([images.parents[truth], truth], axis=1)
    found = {"macro-F1": macro_f1(true, challenger.predicted[rows]) - macro_f1(true, champion.predicted[rows])}
    for least in CLIPS:
        compared = compare_paired(challenger.paths(rows, least), champion.paths(rows, least), products)
        found |= {"t_f1": compared.t_f1, f"t_loss {least:g}": compared.t_loss}
    return found


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


def _sum(
    f1: float, loss: float, *, least: float = LEAST_PROBABILITY, against: float = 0.0
) -> Callable[[Mapping[str, Any]], float]:
    scale = (2 / (f1**2 + loss**2)) ** 0.5  # so that `against` means the same for all weights
    return lambda row: scale * (f1 * row["t_f1"] + loss * row[f"t_loss {least:g}"]) + against


RULES: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "macro-F1, the rule before": lambda row: row["macro-F1"],
    "t(F1) >= 0": _sum(1, 0),
    "t(log-loss) >= 0": _sum(0, 1, least=CLIPS[0]),
    "t(clipped log-loss) >= 0": _sum(0, 1),
    "t(F1) + t(clipped log-loss) >= 0": _sum(1, 1),
    f"**t(F1) + t(clipped log-loss) >= -{EVIDENCE_AGAINST:g}**": _sum(1, 1, against=EVIDENCE_AGAINST),
}
TRIED: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    **RULES,
    **{
        f"{f1} t(F1) + {loss} t(log-loss, {least:g}) >= -{against:g}": _sum(f1, loss, least=least, against=against)
        for least in CLIPS
        for f1, loss in ((1, 0), (0, 1), (1, 2), (1, 1), (2, 1))
        for against in (0.0, 0.5, 1.0, 1.5, 2.0)
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
    add("--splits", type=int, default=20, help="default: %(default)s")
    add("--challengers", type=int, default=5, help="of each kind in each split (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=1000,
        help="of the first split (default: %(default)s); the rule was chosen below 1000",
    )
    add("--tried", action="store_true", help="also the weights and clips that the rule was chosen from")
    add("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    add("--name", default="gate", help="of the result's files (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
