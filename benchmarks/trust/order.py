"""Which order of labelling learns fastest, and does the promise of precision survive it?

`python -m benchmarks.trust.order --help`. Each split keeps a third of a catalogue's products for the test. The images
of all other products are labelled in the order of a strategy, round by round; after each round a linear discriminant
learns from the labels so far. The suggestions are those of the product (`fit_promise`, confidence 0.8), with the
threshold from all labels or from those that were drawn at random. Finished rounds are appended to a file in --work.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import Catalogue, digest, read_catalogue, read_embeddings
from benchmarks.promise_rules import Images, counted, shown
from benchmarks.run import RESULTS, say
from benchmarks.trust.order_table import write_table
from taxonomist.inference.heads.features import features
from taxonomist.taxonomy.calibration import fit_promise
from taxonomist.taxonomy.labelling_order import labelling_order
from taxonomist.taxonomy.labelling_order.k_means import squared_distances
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import evaluate_paths
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant.fit_discriminant import (
    DiscriminantOptions,
    FittedDiscriminant,
    fit_discriminant,
)
from taxonomist.training.heads.evaluation import most_likely_paths

_CONFIDENCE = 0.8
_TEST_SHARE = 0.333
_ROUNDS = (50, 100, 200, 300, 400, 500, 600)


@dataclass(frozen=True)
class State:
    """What a strategy knows before a round: features (n, d) of all images that may be labelled, and their products.

    `labelled` and `at_random` are (n,). `uncertainty` (n,) is that of the head of the round before, None before it.
    """

    x: NDArray[np.float32]
    products: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    at_random: NDArray[np.bool_]
    uncertainty: NDArray[np.float32] | None
    seed: int

    @property
    def open(self) -> NDArray[np.int64]:
        """The images without a label."""
        return np.flatnonzero(~self.labelled)


Strategy = Callable[[State, int], NDArray[np.int64]]
"""From a state and the number of images to label to these images."""


def _random(state: State, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(state.seed).permutation(state.open)[:count]


def _ours(state: State, count: int) -> NDArray[np.int64]:
    return labelling_order(state.x, state.products, state.labelled, state.at_random, seed=state.seed)[:count]


def _typical(state: State, count: int) -> NDArray[np.int64]:
    """TypiClust in every round."""
    order = labelling_order(state.x, state.products, state.labelled, state.at_random, first=10**6, seed=state.seed)
    return order[:count]


def _hundred(state: State, count: int) -> NDArray[np.int64]:
    """TypiClust for the first hundred labels."""
    order = labelling_order(state.x, state.products, state.labelled, state.at_random, first=100, seed=state.seed)
    return order[:count]


def _products(state: State, count: int) -> NDArray[np.int64]:
    """Products that were not seen yet, from the first label on."""
    order = labelling_order(state.x, state.products, state.labelled, state.at_random, first=0, seed=state.seed)
    return order[:count]


def _k_center(state: State, count: int) -> NDArray[np.int64]:
    """The image that is farthest from all labelled ones, again and again (Sener and Savarese 2018)."""
    chosen = [] if state.labelled.any() else [int(_random(state, 1)[0])]
    centres = state.x[state.labelled] if state.labelled.any() else state.x[chosen]
    distances = squared_distances(state.x, centres).min(axis=1)
    while len(chosen) < count:
        distances[state.labelled] = -1
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, squared_distances(state.x, state.x[chosen[-1:]])[:, 0])
        distances[chosen] = -1
    return np.array(chosen)


def _uncertain(state: State, count: int) -> NDArray[np.int64]:
    """The images with the least probability of the likeliest class; in the first round at random."""
    if state.uncertainty is None:
        return _random(state, count)
    drawn = np.random.default_rng(state.seed).permutation(np.flatnonzero(~state.labelled & state.at_random))
    chosen = np.flatnonzero(~state.labelled & ~state.at_random)
    chosen = chosen[np.argsort(-state.uncertainty[chosen], kind="stable")]
    draws = round(count * len(drawn) / len(state.open))
    return np.concatenate([drawn[:draws], chosen[: count - draws]])


@dataclass(frozen=True)
class Arm:
    """A strategy, and the share of images that are drawn at random beside it."""

    strategy: Strategy
    share: float = 0.0


ARMS: Mapping[str, Arm] = {
    "random": Arm(_random, 1.0),
    "ours": Arm(_ours),
    "ours, 20 % random": Arm(_ours, 0.2),
    "ours, 33 % random": Arm(_ours, 0.33),
    "TypiClust for 100 labels": Arm(_hundred),
    "TypiClust in every round": Arm(_typical),
    "new products": Arm(_products),
    "k-center": Arm(_k_center),
    "uncertainty": Arm(_uncertain),
    "uncertainty, 20 % random": Arm(_uncertain, 0.2),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    x = read_embeddings(options.embeddings)
    data = digest(options.catalogue, options.embeddings)
    catalogue = read_catalogue(options.catalogue, options.tree, x)
    path = options.work / f"order-{options.tree}-{data}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["arm"], row["seed"]) for row in rows}
    for seed in range(options.seed, options.seed + options.splits):
        for name in options.arms:
            if (name, seed) in done:
                continue
            began = time.process_time()
            found = list(_simulate(catalogue, name, seed, options.rounds, options.targets))
            rows += found
            with path.open("a") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in found)
            say(f"{name}, seed {seed}: {time.process_time() - began:.0f} s")
    seeds = range(options.seed, options.seed + options.splits)
    rows = [row for row in rows if row["seed"] in seeds and row["arm"] in options.arms]
    about = {"command": _command(options), "machine": machine(), "seed": options.seed, "splits": options.splits}
    print(write_table(options.output, options.name, rows, about))
    return 0


def _simulate(
    catalogue: Catalogue, name: str, seed: int, rounds: Sequence[int], targets: Sequence[float]
) -> Iterator[dict[str, Any]]:
    arm = ARMS[name]
    pool, tested = catalogue.split(0, _TEST_SHARE, seed)
    is_tested = np.zeros(len(catalogue.products), np.bool_)
    is_tested[tested] = True
    pool = np.flatnonzero(~is_tested)
    testing = Images.of(catalogue, tested)
    x = features(catalogue.x[pool])
    products = np.unique(catalogue.products[pool], return_inverse=True)[1].astype(np.int64)
    at_random = np.random.default_rng(10_000 + seed).random(len(pool)) < arm.share
    labelled: list[int] = []
    uncertainty = None
    for number, budget in enumerate(rounds):
        mask = np.zeros(len(pool), np.bool_)
        mask[labelled] = True
        state = State(x, products, mask, at_random, uncertainty, 1000 * seed + number)
        chosen = arm.strategy(state, budget - len(labelled))
        if uncertainty is None and arm.strategy is _uncertain:
            at_random[chosen] = True  # they were
        labelled += chosen.tolist()
        learning = Images.of(catalogue, pool[labelled])
        fitted = fit_in_span(learning, catalogue.tree)
        probabilities = fitted.weights.probabilities(testing.x)
        with np.errstate(divide="ignore"):
            paths = most_likely_paths(catalogue.tree, np.log(probabilities))
        metrics = evaluate_paths(catalogue.tree, testing.truths, paths)
        classes = fitted.weights.probabilities(catalogue.x[pool])[:, fitted.weights.nodes]
        uncertainty = 1 - classes.max(axis=1)
        random_rows = np.flatnonzero(at_random[labelled])
        yield {
            "arm": name,
            "seed": seed,
            "labels": budget,
            "drawn": len(random_rows),
            "macro_f1": metrics.macro_f1,
            "f1": metrics.hierarchical_f1,
            "promises": [
                {
                    "target": target,
                    "from": which,
                    **_promise(catalogue, learning, testing, fitted, probabilities, target, some),
                }
                for target in targets
                for which, some in (("all", np.arange(len(labelled))), ("random", random_rows))
            ],
        }


def fit_in_span(learning: Images, tree: Tree) -> FittedDiscriminant:
    """Return the product's discriminant, fitted within the span of the labelled images: it is faster.

    Outside of the span the covariance is the shrunk identity, so the result is the same but for rounding.
    """
    options, x = DiscriminantOptions(), features(learning.x)
    basis = np.linalg.qr(x.T)[0]  # (d, n)
    inside = x @ basis
    ridge = options.shrinkage / (1 - options.shrinkage) * basis.shape[1] / basis.shape[0]
    fitted = fit_discriminant(
        np.sign(inside) * inside**2,  # of which the features are `inside`
        stops(tree, learning.truths),
        learning.products,
        tree,
        replace(options, shrinkage=ridge / (1 + ridge)),
    )
    return replace(fitted, weights=replace(fitted.weights, weight=fitted.weights.weight @ basis.T))


def _promise(
    catalogue: Catalogue,
    learning: Images,
    testing: Images,
    fitted: FittedDiscriminant,
    probabilities: NDArray[np.float32],
    target: float,
    rows: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the numbers of suggestions and of right ones, with a threshold from some of the labels."""
    some = learning.some(rows.tolist())
    calibration = fit_promise(
        catalogue.tree,
        fitted.held_out[rows],
        some.truths,
        some.products,
        target_precision=target,
        confidence=_CONFIDENCE,
    )
    if not np.isfinite(calibration.thresholds).any():
        return {"images": len(testing.paths), "suggested": 0, "right": 0}
    counts = counted(catalogue, testing, shown(catalogue.tree, probabilities, calibration))
    return {name: counts[name] for name in ("images", "suggested", "right")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.trust.order", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--catalogue", type=Path, required=True, metavar="FOLDER", help="has manifest.csv, see benchmarks.promise")
    add("--embeddings", type=Path, required=True, metavar="FILE.npz", help='array "x" in the order of the manifest')
    add("--work", type=Path, required=True, metavar="FOLDER", help="where finished rounds are kept")
    add("--tree", choices=("furniture", "shapes"), default="furniture", help="default: %(default)s")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="default: all")
    add("--rounds", nargs="+", type=int, default=list(_ROUNDS), help="labels after each round (default: %(default)s)")
    add("--targets", nargs="+", type=float, default=[0.8], help="default: %(default)s")
    add("--splits", type=int, default=8, help="default: %(default)s")
    add(
        "--seed",
        type=int,
        default=3003,
        help="of the first split (default: %(default)s); the order was chosen on 3000 to 3002",
    )
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    add("--name", default="order", help="of the result's files (default: %(default)s)")
    return parser


def _command(options: argparse.Namespace) -> str:
    """Return the command without what differs from machine to machine."""
    defaults = vars(_parser().parse_args(["--catalogue", "", "--work", "", "--embeddings", ""]))
    parts = ["python -m benchmarks.trust.order --catalogue CATALOGUE --embeddings LITE0.npz --work WORK"]
    for name, value in vars(options).items():
        if value != defaults[name] and name not in {"catalogue", "embeddings", "work", "output", "name"}:
            values = value if isinstance(value, list) else [value]
            parts.append(f"--{name} {shlex.join(map(str, values))}")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
