"""What a projection learned from products is worth: `python -m benchmarks.projection --help`.

Each split leaves out a quarter of the products. Projections are fitted without labels on all images of the others, the
labels are drawn from the others, and all figures are of every second view of the products that were left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.measure import machine
from benchmarks.projection_table import Gate, Hits, Split, table
from benchmarks.promise_catalogue import LITE0, STARTER, Catalogue, digest, embeddings_of, read_catalogue
from benchmarks.promise_catalogue import read_embeddings as read
from benchmarks.run import RESULTS, say
from taxonomist.inference.heads.features import features
from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.inference.neighbours import search
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants, whitening
from taxonomist.taxonomy.paths import prefixes
from taxonomist.training.heads.discriminant.fit_discriminant import ProductFeatures, fit_discriminant
from taxonomist.training.look_alike_projection import LearnedSpace, ProductVectors, judged
from taxonomist.training.product_space import scatter_of

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
NAME = "2026-11-28-projection"
EXAMPLE = """example:
  python -m benchmarks.projection shared/furniture --work /tmp/projection --embeddings lite0=/tmp/lite0.npz
"""
FEW, MANY = 411, 1000
DIMENSIONS = (256, 128)
TEST_SHARE = 0.25
HELD_OUT_SHARE = 0.2  # of the products that a training knows
FALSE_PAIRS = 18e-6  # of all pairs of two products: what near-duplicates of the starter had


def spaces(x: Array, scatter: ProductScatter) -> Iterator[tuple[str, Array]]:
    """Yield embeddings (n, d) as they are, and as other spaces have them. The covariance is shrunk by half in each."""
    yield "none", x
    yield "signed root", features(x)
    yield "whitened within products", LookAlikeProjection.of_scatter(scatter, whitening(scatter)).of(x)
    main = LookAlikeProjection.of_scatter(scatter, discriminants(scatter, max(DIMENSIONS))).of(x)
    for dimension in DIMENSIONS:  # in the order of what they tell apart
        yield f"LDA on products, {dimension}", main[:, :dimension]


def run(catalogue: Catalogue, seed: int) -> Split:
    """Return what each space gets right on the products that one split leaves out."""
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(catalogue.products))
    is_tested = np.isin(catalogue.products, names[: round(len(names) * TEST_SHARE)])
    others = np.flatnonzero(~is_tested)
    tested = np.flatnonzero(is_tested)[::2]
    scatter = ProductScatter.of(features(catalogue.x[others]), catalogue.products[others])
    shuffled = random.permutation(others)
    _, first = np.unique(catalogue.products[shuffled], return_index=True)
    labelled = {"few": shuffled[random.permutation(first)[:FEW]], "many": shuffled[:MANY]}
    hits = {space: dict(_columns(catalogue, space, x, labelled, tested)) for space, x in spaces(catalogue.x, scatter)}
    return Split(catalogue.products[tested], hits)


def _columns(
    catalogue: Catalogue, space: str, x: Array, labelled: Mapping[str, Indices], tested: Indices
) -> Iterator[tuple[str, Hits]]:
    """Yield the hits of one space by column."""
    products, tree = catalogue.products, catalogue.tree
    truth = np.array([[tree.index[path[:1]], tree.index[path]] for path in catalogue.paths])
    units = x[tested] - x[tested].mean(axis=0) if space == "none" else x[tested]
    yield "R@1", Hits.of(_nearest_other(x[tested], products[tested]) == products[tested])
    yield "pairs", Hits.of(_pairs_found(units, products[tested]))
    many = labelled["many"]
    rows, _ = search(x[tested], x[many], 1)
    yield "same kind", Hits.of(truth[many][rows[:, 0], 1] == truth[tested, 1])
    for name, level in (("few", 0), ("many", 0), ("many", 1)):
        rows = labelled[name]
        probe = _probe(x[rows], truth[rows, level], x[tested])
        yield f"probe {name} {level + 1}", Hits.of_classes(truth[tested, level], probe)
    for name, found in _heads(catalogue, space, x, labelled, tested):
        for level in (0, 1):
            nodes = np.flatnonzero(tree.levels == level + 1)
            best = nodes[found[:, nodes].argmax(axis=1)]
            yield f"{name} {level + 1}", Hits.of_classes(truth[tested, level], best)


def gate(catalogue: Catalogue, seed: int) -> Gate:
    """Return what a training decides about the space of look-alikes, and its figures on the products left out.

    A fifth of the other products is held out from the projection, and judges it.
    """
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(catalogue.products))
    count = round(len(names) * TEST_SHARE)
    parts = np.split(names, [count, count + round((len(names) - count) * HELD_OUT_SHARE)])
    unseen, judging, teaching = (np.flatnonzero(np.isin(catalogue.products, part)) for part in parts)
    labels = np.zeros(len(catalogue.products), np.bool_)
    labels[random.permutation(np.concatenate([judging, teaching]))[:MANY]] = True

    def images(rows: Indices) -> ProductVectors:
        nodes = [set(prefixes(catalogue.paths[row])) if labels[row] else set() for row in rows]
        return ProductVectors(catalogue.x[rows], catalogue.products[rows].tolist(), nodes)

    taught = images(teaching)
    space = LearnedSpace.of(scatter_of([(taught.embeddings, taught.products)]))
    labelled = images(teaching[labels[teaching]])
    decided = judged(space, images(judging), labelled)
    labels[unseen] = True
    truth = judged(space, images(unseen), labelled)
    assert decided is not None
    assert truth is not None
    return Gate(decided.figures.served, truth.figures.same_product, truth.figures.same_labels)


def _heads(
    catalogue: Catalogue, space: str, x: Array, labelled: Mapping[str, Indices], tested: Indices
) -> Iterator[tuple[str, Array]]:
    """Yield P(path) of the tested images by the head that is served, from few labels, from many, and from many that
    count for whole products."""
    if space == "signed root":  # the head takes it itself
        return

    def seen(values: Array) -> Array:
        """Return what the head takes for embeddings: its own signed root is undone for projected ones."""
        return values if space == "none" else np.sign(values) * values**2

    tree, products = catalogue.tree, catalogue.products
    every = ProductFeatures.of(seen(x), products.tolist(), depth=tree.depth)
    for name, rows, carried in (("head few", "few", False), ("head many", "many", False), ("carried", "many", True)):
        at = labelled[rows]
        stops = np.zeros((len(at), len(tree)), np.float32)
        stops[np.arange(len(at)), [tree.index[catalogue.paths[row]] for row in at]] = 1
        shared = ProductFeatures(every.means[at], every.sizes[at], every.depth)
        fitted = fit_discriminant(seen(x[at]), stops, products[at].tolist(), tree, shared=[shared] if carried else ())
        yield name, fitted.weights.probabilities(seen(x[tested]))


def _nearest_other(x: Array, products: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the product of the image that is most similar to each of n images, itself left out."""
    rows, _ = search(x, x, 2)
    own = np.arange(len(x))
    nearest: NDArray[np.str_] = products[np.where(rows[:, 0] == own, rows[:, 1], rows[:, 0])]
    return nearest


def _pairs_found(x: Array, products: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return for each image the share of its product's other images that are as similar as hardly any two products."""
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = units @ units.T
    same = products[:, None] == products[None, :]
    different = np.sort(cosines[~same])
    least = different[-max(1, round(len(different) * FALSE_PAIRS))]
    np.fill_diagonal(same, False)
    found: NDArray[np.float64] = (same & (cosines > least)).sum(axis=1) / np.maximum(same.sum(axis=1), 1)
    return found


def _probe(x: Array, y: Indices, tested: Array) -> Indices:
    """Return the classes that a balanced logistic regression on standardised embeddings predicts.

    It is computed in the space that the training images span, where it is the same.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation == 0] = 1
    x, tested = (x - mean) / deviation, (tested - mean) / deviation
    if len(x) < x.shape[1]:
        basis = np.linalg.qr(x.T)[0]
        x, tested = x @ basis, tested @ basis
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=300).fit(x, y)
    found: Indices = model.predict(tested)
    return found


def _results(
    options: argparse.Namespace, files: Mapping[str, Path]
) -> tuple[Mapping[str, list[Split]], Mapping[str, list[Gate]]]:
    """Return the splits, and what is decided in them, by embedding; finished splits are in `work`."""
    keys = {name: digest(options.catalogue, path) for name, path in files.items()}
    catalogues = {name: read_catalogue(options.catalogue, "furniture", read(path)) for name, path in files.items()}
    splits: dict[str, list[Split]] = {name: [] for name in files}
    gates: dict[str, list[Gate]] = {name: [] for name in files}
    for seed in range(options.seed, options.seed + options.splits):
        for name, catalogue in catalogues.items():
            path = options.work / f"projection-{name}-{keys[name]}-{seed}.npz"
            if not path.exists():
                run(catalogue, seed).save(path)
                say(f"{name}, split {seed}")
            splits[name].append(Split.load(path))
            decision = path.with_suffix(".json")
            if not decision.exists():
                decision.write_text(json.dumps(asdict(gate(catalogue, seed))), encoding="utf-8")
                say(f"{name}, split {seed}: decided")
            gates[name].append(Gate(**json.loads(decision.read_text(encoding="utf-8"))))
    return splits, gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        given = {name: Path(path) for name, _, path in (text.partition("=") for text in options.embeddings)}
        files = {
            eyes: embeddings_of(eyes, options.catalogue, given, options.work) for eyes in given or (LITE0, STARTER)
        }
        splits, gates = _results(options, files)
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    command = (
        f"python -m benchmarks.projection CATALOGUE --work WORK --embeddings "
        f"{' '.join(f'{name}={name}.npz' for name in files)} --splits {options.splits} --seed {options.seed}"
    )
    sizes = {name: read(path).shape[1] for name, path in files.items()}
    text = table(splits, gates, sizes, f"`{command}`. {machine()['cpu']}", options.note)
    (options.output / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.projection",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("catalogue", type=Path, help="a folder with manifest.csv and images/")
    parser.add_argument("--work", type=Path, required=True, help="folder for embeddings and finished splits")
    parser.add_argument("--embeddings", nargs="*", default=[], metavar="NAME=FILE", help='.npz files with an array "x"')
    parser.add_argument("--note", default="", help="what the embeddings are, for the table")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first split (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the table (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
