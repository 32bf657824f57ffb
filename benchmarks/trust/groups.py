"""Labels and predictions of images of one product: what they gain, and what groups cost that are mixed on purpose.

The images of some products of a catalogue get labels; all images of the other products are predicted, alone and
together with the other images of their group. A group is a product, or a mixture that is made on purpose. As in a
training, the groups that are not tested teach a space without labels, in which the head learns where its labels are
likelier. Without groups there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import (
    LITE0,
    TREES,
    Catalogue,
    embeddings_of,
    read_catalogue,
    read_embeddings,
    taught_space,
)
from benchmarks.run import RESULTS, say
from taxonomist.inference.heads.features import ProductProjection
from taxonomist.taxonomy.calibration import Calibration, Promise, fit_promise
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.groups import PURE, pure_depth, purity_by_level
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path
from taxonomist.taxonomy.suggestion import suggest_each
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant.choose_space import better_learning
from taxonomist.training.heads.discriminant.fit_discriminant import (
    ProductFeatures,
    fit_discriminant,
)
from taxonomist.training.heads.discriminant.fit_fusion import FittedFusion, calibrate_fusion, fit_fusion

NAME = "2026-11-28-groups"
EXAMPLE = """example:
  python -m benchmarks.trust.groups --catalogue shared/furniture --work /tmp/groups --embeddings /tmp/lite0.npz
"""
TARGETS, CONFIDENCE = (0.8, 0.9), 0.8
PROMISES: tuple[Promise, ...] = ("sure", "average")
LEVELS = (1, 2)
Names = NDArray[np.str_]
Group = Callable[[Catalogue, NDArray[np.int64], np.random.Generator], Names]
"""From a catalogue, its images of one part of the split, and a source of chance to the group of each image."""


def _products(catalogue: Catalogue, rows: NDArray[np.int64], _random: np.random.Generator) -> Names:
    return catalogue.products[rows]


def _paired(share: float, *, within: bool = False) -> Group:
    """Return a grouping in which a share of the products stand in pairs, each of which is one group.

    With `within`, the two products of a pair have the same node of level 1.
    """

    def group(catalogue: Catalogue, rows: NDArray[np.int64], random: np.random.Generator) -> Names:
        products = catalogue.products[rows]
        top = {catalogue.products[row]: catalogue.paths[row][0] for row in rows}
        names = random.permutation(np.unique(products))
        names = names[: round(share * len(names))]
        if within:
            names = np.array(sorted(names, key=lambda name: top[name]))  # neighbours have the same node
        pairs = {second: first for first, second in zip(names[::2], names[1::2], strict=False)}
        if within:
            pairs = {second: first for second, first in pairs.items() if top[first] == top[second]}
        return np.array([pairs.get(product, product) for product in products])

    return group


def _at_random(catalogue: Catalogue, rows: NDArray[np.int64], random: np.random.Generator) -> Names:
    return random.permutation(catalogue.products[rows])


GROUPS: Mapping[str, Group] = {
    "products": _products,
    "10 % in pairs": _paired(0.1),
    "25 % in pairs": _paired(0.25),
    "all in pairs": _paired(1.0),
    "all in pairs of one level-1 node": _paired(1.0, within=True),
    "at random": _at_random,
}
ORDERS = {
    "new products first": "an image of each product, then a second one of some",
    "at random": "any images",
}


@dataclass(frozen=True)
class Split:
    """The labelled images, all images of their part, and the tested ones."""

    labelled: NDArray[np.int64]
    learning: NDArray[np.int64]
    testing: NDArray[np.int64]


def split(catalogue: Catalogue, labels: int, test_share: float, seed: int, order: str) -> Split:
    """Return one split by product; `order` is one of `ORDERS`."""
    drawn, testing = catalogue.split(labels, test_share, seed)
    learning = np.setdiff1d(np.arange(len(catalogue.paths)), testing)
    if order == "new products first":
        shuffled = np.random.default_rng(seed).permutation(learning)
        _, first = np.unique(catalogue.products[shuffled], return_index=True)
        others = np.delete(shuffled, first)
        drawn = np.concatenate([shuffled[np.sort(first)], others])[:labels]
    return Split(drawn, learning, testing)


def run(catalogue: Catalogue, parts: Split, group: Group, seed: int, least: float) -> dict[str, Any]:
    """Return what one split says about one grouping; images alone are predicted with the same groups in one fold."""
    random = np.random.default_rng(seed)
    tree = catalogue.tree
    names = np.empty(len(catalogue.paths), dtype=object)
    names[parts.learning] = group(catalogue, parts.learning, random)
    names[parts.testing] = group(catalogue, parts.testing, random)
    products = names[parts.labelled].tolist()
    truths = [(catalogue.paths[row],) for row in parts.labelled]
    purity = purity_by_level(truths, products, tree.depth)
    depth = pure_depth(purity, least)
    labelled, targets = catalogue.x[parts.labelled], stops(tree, truths)
    place = np.searchsorted(parts.learning, parts.labelled)

    def shared(space: ProductProjection | None) -> ProductFeatures:
        known = ProductFeatures.of(catalogue.x[parts.learning], names[parts.learning].tolist(), depth, space)
        return ProductFeatures(known.means[place], known.sizes[place], depth)

    alone = fit_discriminant(labelled, targets, products, tree)
    x = catalogue.x[parts.testing]
    figures = _figures(catalogue, parts, products, alone.held_out, alone.weights.probabilities(x))
    found = {"depth": depth, "purity": [(level.groups, level.agreement, level.bound) for level in purity]}
    found |= dict.fromkeys(("alone", "carried", "fused"), figures)
    taught = taught_space(catalogue.x[parts.learning], names[parts.learning])
    known = [shared(space) for space in (None, *(taught.all if taught else ()))]
    learning, chosen = better_learning(labelled, targets, products, tree, shared=known, taught=taught)
    found["space"] = learning.space is not None
    found["log_loss"] = chosen and chosen.log_loss
    if depth or learning.space:  # else all three are the same
        grouped = learning.fitted()
        own = _Predicted(grouped.held_out, grouped.weights.probabilities(x))
        found["carried"] = found["fused"] = _figures(catalogue, parts, products, own.held_out, own.probabilities)
        fusion = fit_fusion(learning, products)
        found["gain"] = bool(fusion and fusion.gain)
        if fusion and fusion.gain:
            tested = ProductFeatures.of(x, names[parts.testing].tolist(), depth, learning.space)
            together = fusion.fusion.probabilities(grouped.weights, tree, x, tested.means, tested.sizes)
            several = _Several(fusion, together, tested.sizes > 1)
            found["fused"] = _figures(catalogue, parts, products, own.held_out, own.probabilities, several)
    return found


@dataclass(frozen=True)
class _Predicted:
    """P(path) of the labelled images by models without their products, and of the tested ones."""

    held_out: FloatArray
    probabilities: FloatArray


@dataclass(frozen=True)
class _Several:
    """What is predicted together, and which of the tested images have others of their group."""

    fitted: FittedFusion
    probabilities: FloatArray
    tested: NDArray[np.bool_]


def _figures(
    catalogue: Catalogue,
    parts: Split,
    products: Sequence[str],
    held_out: FloatArray,
    probabilities: FloatArray,
    several: _Several | None = None,
) -> dict[str, Any]:
    """Return the accuracy by level, and by promise and target what is suggested, and whether images help each other.

    An image of `several` is predicted with the others of its group, where that is a gain and has a calibration.
    """
    tree = catalogue.tree
    truths = [catalogue.paths[row] for row in parts.testing]
    likely = [tree.paths[greedy_path(tree, row)[-1]] for row in (several.probabilities if several else probabilities)]
    found: dict[str, Any] = {
        f"level {level}": float(
            np.mean([path[:level] == truth[:level] for path, truth in zip(likely, truths, strict=True)])
        )
        for level in LEVELS
    }
    labels = [(catalogue.paths[row],) for row in parts.labelled]
    for target, promise in product(TARGETS, PROMISES):
        calibration = fit_promise(
            tree, held_out, labels, products, target_precision=target, confidence=CONFIDENCE, promise=promise
        )
        together = several and calibrate_fusion(
            several.fitted, tree, held_out, labels, products, range(len(labels)), calibration, CONFIDENCE
        )
        if several and together:
            counts = [
                _suggested(catalogue, [truths[row] for row in rows], values[rows], used)
                for rows, values, used in (
                    (np.flatnonzero(several.tested), several.probabilities, together),
                    (np.flatnonzero(~several.tested), probabilities, calibration),
                )
            ]
            found[f"{promise} {target}"] = [sum(count) for count in zip(*counts, strict=True)]
        else:
            found[f"{promise} {target}"] = list(_suggested(catalogue, truths, probabilities, calibration))
        found[f"{promise} {target} together"] = bool(together)
    return found


def _suggested(
    catalogue: Catalogue, truths: Sequence[tuple[str, ...]], probabilities: FloatArray, calibration: Calibration
) -> tuple[int, int, int]:
    """Return the numbers of images, of suggestions, and of right ones."""
    if not np.isfinite(calibration.thresholds[0]):
        return len(truths), 0, 0
    made = suggest_each(catalogue.tree, probabilities, calibration)
    right = sum(
        truth[: suggestion.level] == suggestion.path
        for suggestion, truth in zip(made, truths, strict=True)
        if suggestion
    )
    return len(truths), sum(suggestion is not None for suggestion in made), right


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        given = {LITE0: options.embeddings} if options.embeddings else {}
        file = embeddings_of(LITE0, options.catalogue, given, options.work)
        catalogue = read_catalogue(options.catalogue, options.tree, read_embeddings(file))
        results = list(_results(catalogue, options))
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    from benchmarks.trust.groups_table import write

    table, made = write(options.output, options.name, results, {**_about(options), "machine": machine()})
    print(table)
    for path in made:
        say(f"written: {path}")
    return 0


def _results(catalogue: Catalogue, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of all splits; those that an earlier call has finished are in a file of `work`."""
    path = options.work / "groups.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {json.dumps(row["job"], sort_keys=True): row for row in rows}
    names = ("tree", "labels", "test_share", "least")
    for order, seed in product(options.orders, range(options.seed, options.seed + options.splits)):
        parts = split(catalogue, options.labels, options.test_share, seed, order)
        for name, group in ((name, GROUPS[name]) for name in options.groups):
            job = {"order": order, "groups": name, "seed": seed} | {key: getattr(options, key) for key in names}
            key = json.dumps(job, sort_keys=True)
            if key not in done:
                done[key] = {"job": job, "row": run(catalogue, parts, group, seed, options.least)}
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[key]) + "\n")
            yield {**job, **done[key]["row"]}
        say(f"{order}: {seed}")


def _about(options: argparse.Namespace) -> dict[str, Any]:
    command = "python -m benchmarks.trust.groups --catalogue CATALOGUE --work WORK"
    defaults = {"tree": "furniture", "labels": 568, "splits": 10, "seed": 3000, "test_share": 0.333, "least": PURE}
    for name, value in defaults.items():
        if getattr(options, name) != value:
            command += f" --{name.replace('_', '-')} {getattr(options, name)}"
    if options.groups != list(GROUPS):
        command += " --groups " + " ".join(f"'{name}'" for name in options.groups)
    if options.orders != list(ORDERS):
        command += " --orders " + " ".join(f"'{name}'" for name in options.orders)
    if options.name != NAME:
        command += f" --name {options.name}"
    return {"command": command} | {name: getattr(options, name) for name in defaults}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.trust.groups",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--catalogue", type=Path, required=True, metavar="FOLDER", help="has images/ and manifest.csv")
    add("--work", type=Path, required=True, metavar="FOLDER", help="where embeddings are kept")
    add("--embeddings", type=Path, metavar="FILE.npz", help="ready embeddings of EfficientNet-Lite0 at 160 pixels")
    add("--tree", choices=list(TREES), default="furniture", help="default: %(default)s")
    add("--labels", type=int, default=568, help="default: %(default)s")
    add("--splits", type=int, default=10, help="default: %(default)s")
    add("--seed", type=int, default=3000, help="of the first split (default: %(default)s)")
    add("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS), help="how labels are drawn (default: both)")
    add("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="default: all")
    add("--name", default=NAME, help="of the result's files (default: %(default)s)")
    add("--test-share", type=float, default=0.333, help="of the products (default: %(default)s)")
    add("--least", type=float, default=PURE, help="agreement from which a level is pure (default: %(default)s)")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
