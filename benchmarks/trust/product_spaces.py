"""What unlabelled images of known products could teach the head `lda`.

The product has the space with 512 numbers, where labels are likelier in it (`training.product_space`). *Today* is the
head without a space; the others are not part of the product.

Each split leaves out products to test on. What is learned from products, without labels, comes from all images of the
others; the labels are drawn from these.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import LITE0, TREES, Catalogue, digest, embeddings_of, read_catalogue, read_embeddings
from benchmarks.promise_heads import scores
from benchmarks.promise_rules import Images
from benchmarks.run import RESULTS, say
from benchmarks.trust.groups import split
from benchmarks.trust.product_spaces_table import IDENTITY, LDA, TODAY, WITHIN, Results, write
from taxonomist.inference.heads.features import features
from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.groups import pure_depth, purity_by_level
from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant import closed_form, fit_discriminant, held_out
from taxonomist.training.heads.discriminant.fit_fusion import fit_fusion

NAME = "2026-11-28-within-products"
EXAMPLE = """example:
  python -m benchmarks.trust.product_spaces --catalogue furniture --work /tmp/spaces --embeddings lite0.npz
"""
GROUPED = 568  # labels, as in `benchmarks.trust.groups`
_CLIP = 1e-4  # P of a label in the log-loss
_WITHIN = 1.0  # weight of the covariance within products, relative to that of the labels


@dataclass(frozen=True)
class Candidate:
    """A head: the embeddings of all images, its options, and the covariance (d, d) that joins that of the labels."""

    catalogue: Catalogue
    options: closed_form.DiscriminantOptions
    within: NDArray[np.float64] | None = None

    def learns(self) -> AbstractContextManager[object]:
        """Return a context in which discriminants are fitted as this one is."""
        stack = ExitStack()
        if self.within is not None:
            for module in (fit_discriminant, held_out):
                stack.enter_context(patch.object(module, "fit", self._fit))
        return stack

    def _fit(
        self, sums: closed_form.Sums, data: closed_form.LabelledFeatures, options: closed_form.DiscriminantOptions
    ) -> closed_form.Model:
        assert self.within is not None
        has_labels = sums.weights > 1e-6
        squares = (sums.vectors[has_labels] ** 2).sum(axis=1) / sums.weights[has_labels]
        trace = np.trace(sums.gram) - squares.sum()  # of the scatter within the nodes where labels stop
        gram = sums.gram + self.within * (_WITHIN * trace / np.trace(self.within))
        return closed_form.fit(replace(sums, gram=gram), data, options)


def candidates(catalogue: Catalogue, known: NDArray[np.int64]) -> Iterator[tuple[str, Candidate]]:
    """Yield the heads by name; they learn from the products of the images `known`, without labels."""
    options = closed_form.DiscriminantOptions()
    yield TODAY, Candidate(catalogue, options)
    yield IDENTITY, Candidate(catalogue, replace(options, shrinkage=0.8))
    scatter = ProductScatter.of(features(catalogue.x[known]), catalogue.products[known])
    yield WITHIN, Candidate(catalogue, options, scatter.within)
    whole = LookAlikeProjection.of_scatter(scatter, discriminants(scatter, max(LDA.values()))).of(catalogue.x)
    for name, dimension in LDA.items():  # the directions are in the order of what they tell apart
        x = whole[:, :dimension]
        # The head takes signed roots and the length 1: here only the length shall be left.
        yield name, Candidate(replace(catalogue, x=np.sign(x) * x**2), options)


def run(
    heads: Mapping[str, Candidate], catalogue: Catalogue, labels: int, test_share: float, seed: int
) -> dict[str, dict[str, float]]:
    """Return the figures of each head, which learns from labelled images and predicts one image at a time."""
    drawn, testing = catalogue.split(labels, test_share, seed)
    found = {}
    for name, head in heads.items():
        learning, tested = (Images.of(head.catalogue, rows) for rows in (drawn, testing))
        tree = catalogue.tree
        with head.learns():
            targets = stops(tree, learning.truths)
            fitted = fit_discriminant.fit_discriminant(learning.x, targets, learning.products, tree, head.options)
        probabilities = fitted.weights.probabilities(tested.x)
        f1, loss = scores(learning, tested, tree, probabilities)
        found[name] = {"f1": f1, "loss": loss, "held out": _loss(catalogue, drawn, fitted.held_out)}
        found[name] |= _right(catalogue, testing, probabilities)
    return found


def run_groups(
    heads: Mapping[str, Candidate], catalogue: Catalogue, test_share: float, seed: int
) -> dict[str, dict[str, float]]:
    """Return the figures of each head without groups, where labels count for products, and of whole products."""
    parts = split(catalogue, GROUPED, test_share, seed, "new products first")
    drawn, learning, testing = parts.labelled, parts.learning, parts.testing
    products = catalogue.products[drawn].tolist()
    truths = [(catalogue.paths[row],) for row in drawn]
    depth = pure_depth(purity_by_level(truths, products, catalogue.tree.depth))
    place = np.searchsorted(learning, drawn)
    found = dict[str, dict[str, float]]()
    for name, head in heads.items():
        x, tree = head.catalogue.x, catalogue.tree
        known, tested = (
            fit_discriminant.ProductFeatures.of(x[rows], catalogue.products[rows].tolist(), depth)
            for rows in (learning, testing)
        )
        shared = fit_discriminant.ProductFeatures(known.means[place], known.sizes[place], depth)
        targets = stops(tree, truths)
        with head.learns():
            single = fit_discriminant.fit_discriminant(x[drawn], targets, products, tree, head.options)
            taught = fit_discriminant.learning_of(x[drawn], targets, products, tree, head.options, [shared])
            fitted, fusion = taught.fitted(), fit_fusion(taught, products)
        own = together = fitted.weights.probabilities(x[testing])
        if fusion and fusion.gain:
            together = fusion.fusion.probabilities(fitted.weights, tree, x[testing], tested.means, tested.sizes)
        found[name] = {}
        alone = single.weights.probabilities(x[testing])
        for kind, probabilities in (("alone", alone), ("carried", own), ("fused", together)):
            figures = _right(catalogue, testing, probabilities) | {"loss": _loss(catalogue, testing, probabilities)}
            found[name] |= {f"{kind} {key}": value for key, value in figures.items()}
    return found


def _right(catalogue: Catalogue, rows: NDArray[np.int64], probabilities: FloatArray) -> dict[str, float]:
    """Return the accuracy of the likeliest paths by level."""
    likely = [catalogue.tree.paths[greedy_path(catalogue.tree, row)[-1]] for row in probabilities]
    truths = [catalogue.paths[row] for row in rows]
    return {
        f"level {level}": float(
            np.mean([path[:level] == truth[:level] for path, truth in zip(likely, truths, strict=True)])
        )
        for level in (1, 2)
    }


def _loss(catalogue: Catalogue, rows: NDArray[np.int64], probabilities: FloatArray) -> float:
    """Return the log-loss of the labels that were learned."""
    nodes = [catalogue.tree.index[catalogue.paths[row]] for row in rows]
    right = probabilities[np.arange(len(rows)), nodes]
    return float(-np.log(np.maximum(right[right > 0], _CLIP)).mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        given = {LITE0: options.embeddings} if options.embeddings else {}
        results = list(_results(embeddings_of(LITE0, options.catalogue, given, options.work), options))
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    about = {"command": _command(options), "machine": machine(), "seed": options.seed, "splits": options.splits}
    table, made = write(options.output, options.name, results, about | {"test_share": options.test_share})
    print(table)
    for path in made:
        say(f"written: {path}")
    return 0


def _results(file: Path, options: argparse.Namespace) -> Results:
    """Return the rows of all splits; those that an earlier call has finished are in a file of `work`."""
    path = options.work / "spaces.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {json.dumps(line["job"], sort_keys=True): line for line in lines}
    data, x = digest(options.catalogue, file), read_embeddings(file)
    catalogues: Mapping[str, Catalogue] = {tree: read_catalogue(options.catalogue, tree, x) for tree in options.trees}
    seeds, share = range(options.seed, options.seed + options.splits), options.test_share
    found = []
    for seed, tree in product(seeds, options.trees):
        catalogue, heads = catalogues[tree], dict[str, Candidate]()
        for labels in (*options.labels, None):
            job = {"tree": tree, "labels": labels, "seed": seed, "test_share": share, "data": data}
            key = json.dumps(job, sort_keys=True)
            if key not in done:
                heads = heads or dict(candidates(catalogue, _known(catalogue, share, seed)))
                rows = (
                    run(heads, catalogue, labels, share, seed) if labels else run_groups(heads, catalogue, share, seed)
                )
                done[key] = {"job": job, "heads": rows}
                with path.open("a", encoding="utf-8") as finished:
                    finished.write(json.dumps(done[key]) + "\n")
            found.append(done[key])
        say(f"{tree}: {seed}")
    return found


def _known(catalogue: Catalogue, test_share: float, seed: int) -> NDArray[np.int64]:
    """Return the images of all products that a split does not test on, which do not depend on the labels."""
    _, testing = catalogue.split(1, test_share, seed)
    return np.setdiff1d(np.arange(len(catalogue.paths)), testing)


def _command(options: argparse.Namespace) -> str:
    command = "python -m benchmarks.trust.product_spaces --catalogue CATALOGUE --work WORK"
    defaults = vars(_parser().parse_args(["--catalogue", "", "--work", ""]))
    for name in ("labels", "trees", "splits", "seed", "test_share", "name"):
        if (value := getattr(options, name)) != defaults[name]:
            text = " ".join(map(str, value)) if isinstance(value, list) else value
            command += f" --{name.replace('_', '-')} {text}"
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.trust.product_spaces",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--catalogue", type=Path, required=True, metavar="FOLDER", help="has images/ and manifest.csv")
    add("--work", type=Path, required=True, metavar="FOLDER", help="where finished splits and embeddings are kept")
    add("--embeddings", type=Path, metavar="FILE.npz", help="ready embeddings of EfficientNet-Lite0 at 160 pixels")
    add("--labels", type=int, nargs="+", default=[100, 400, 1000, 3000], help="default: %(default)s")
    add("--trees", nargs="+", choices=list(TREES), default=list(TREES), help="default: both")
    add("--splits", type=int, default=10, help="default: %(default)s")
    add("--seed", type=int, default=9200, help="of the first split (default: %(default)s)")
    add("--test-share", type=float, default=0.333, help="of the products (default: %(default)s)")
    add("--name", default=NAME, help="of the result's files (default: %(default)s)")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
