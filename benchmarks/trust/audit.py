"""Which wrong labels does the audit find, beside other methods? `python -m benchmarks.trust.audit --help`.

Images are drawn from a catalogue, and some labels are made wrong. Each method ranks the images. The code of the audit
is that of the product; the probabilities of all methods come from the product's discriminant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.promise_catalogue import LITE0, Catalogue, embeddings_of, read_catalogue, read_embeddings
from benchmarks.run import RESULTS, say
from benchmarks.trust.audit_table import write
from benchmarks.trust.confident_learning import ranked
from taxonomist.inference.heads.features import features
from taxonomist.taxonomy.agreement.doubtful_labels import Doubt, doubtful_labels, pure_groups
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant.fit_discriminant import fit_discriminant
from taxonomist.training.heads.discriminant.label_probabilities import mean_probabilities
from taxonomist.training.near_duplicates import near_duplicates

MOST = 200
"""Findings that are looked at."""
_REPORT = 3  # products in a service report
_COPIED = 0.05  # of the images, where some are there twice

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """What is drawn: how many labels, which errors, and what is known about the images.

    `errors`: "random" is any other class, "sibling" the most similar class below the same parent, "product" any other
    class for all images of a product. `groups`: "products", "reports" of several products, "unknown", or "copies",
    where products are unknown, too, and some images are there twice.
    """

    labels: int
    errors: str
    share: float
    groups: str = "products"


@dataclass(frozen=True)
class Ranking:
    """What a method found in one draw: `curve` (200,) are the wrong labels among the first findings."""

    method: str
    wrong: int
    curve: tuple[int, ...]


@dataclass(frozen=True)
class Reason:
    """The audit's findings for one reason: how many, how many are wrong, and where one of the two images is wrong."""

    reason: str
    findings: int
    wrong: int
    either: int


@dataclass(frozen=True)
class Draw:
    """One draw of a case."""

    case: Case
    rankings: tuple[Ranking, ...]
    reasons: tuple[Reason, ...]


def cases() -> Iterator[Case]:
    """Yield the cases of the table."""
    for labels in (1_000, 3_000):
        for errors in ("random", "sibling", "product"):
            for share in (0.05, 0.1):
                yield Case(labels, errors, share)
    for groups in ("reports", "unknown", "copies"):
        yield Case(3_000, "random", 0.05, groups)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.trust.audit", description=__doc__)
    parser.add_argument("--catalogue", type=Path, required=True, help="folder with images/ and manifest.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder where embeddings are kept")
    parser.add_argument("--embeddings", type=Path, help='ready ones: .npz with "x" in the order of the manifest')
    parser.add_argument("--eyes", default=LITE0, help="name of the embeddings (default: %(default)s)")
    parser.add_argument("--tree", default="furniture", help="default: %(default)s")
    parser.add_argument("--splits", type=int, default=8, help="draws of each case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=3_000, help="of the first draw (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--name", default="2026-11-28-audit", help="of the files (default: %(default)s)")
    options = parser.parse_args(arguments)
    given = {options.eyes: options.embeddings} if options.embeddings else {}
    x = read_embeddings(embeddings_of(options.eyes, options.catalogue, given, options.work))
    catalogue = read_catalogue(options.catalogue, options.tree, x)
    draws = []
    for case in cases():
        say(f"{case}")
        draws += [draw(catalogue, case, options.seed + number) for number in range(options.splits)]
    command = (
        f"python -m benchmarks.trust.audit --catalogue {options.catalogue.name} --work /tmp/audit --eyes {options.eyes}"
    )
    command += f" --tree {options.tree} --splits {options.splits} --seed {options.seed} --name {options.name}"
    text, made = write(options.output, options.name, draws, {"command": command, "machine": machine()})
    print(text)
    for path in made:
        say(f"written: {path}")
    return 0


def draw(catalogue: Catalogue, case: Case, seed: int) -> Draw:
    """Return what each method finds in one draw."""
    random = np.random.default_rng(seed)
    tree = catalogue.tree
    rows = random.permutation(len(catalogue.paths))[: case.labels]
    if case.groups == "copies":
        copied = round(_COPIED * len(rows))
        rows = np.r_[rows[:-copied], rows[:copied]]
    x, products = catalogue.x[rows], catalogue.products[rows]
    true = np.array([tree.index[catalogue.paths[row]] for row in rows])
    given = with_errors(case, true, products, x, np.asarray(tree.parents), random)
    wrong = given != true
    labels = [(tree.paths[node],) for node in given]
    groups = pure_groups(tree, labels, _groups(case, products, random))
    names = [str(number) for number in range(len(rows))]
    near = near_duplicates(names, x)
    folds = [str(group or near.get(name, name)) for group, name in zip(groups, names, strict=True)]
    target = stops(tree, labels)
    by_group, by_image = (fit_discriminant(x, target, keys, tree).held_out for keys in (folds, names))
    both = mean_probabilities(by_group, by_image)
    doubts = doubtful_labels(tree, labels, both, groups, [near.get(name) for name in names])
    without = [None] * len(rows)
    model_alone = doubtful_labels(tree, labels, both, without, without)
    classes, classified = np.unique(given, return_inverse=True)
    own = by_group[np.arange(len(rows)), given]
    rankings = {
        "audit": _rows(doubts),
        "audit, model alone": _rows(model_alone),
        "probability of the given label": np.argsort(own, kind="stable"),
        "confident learning, self-confidence": ranked(classified, by_group[:, classes], "self-confidence"),
        "confident learning, margin": ranked(classified, by_group[:, classes], "margin"),
        "the same, folds of images, self-confidence": ranked(classified, by_image[:, classes], "self-confidence"),
        "the same, folds of images, margin": ranked(classified, by_image[:, classes], "margin"),
        "random": random.permutation(len(rows)),
    }
    return Draw(
        case,
        tuple(Ranking(method, int(wrong.sum()), _curve(order, wrong)) for method, order in rankings.items()),
        tuple(_reasons(doubts, wrong)),
    )


def with_errors(
    case: Case,
    true: Rows,
    products: NDArray[np.str_],
    x: NDArray[np.float32],
    parents: Rows,
    random: np.random.Generator,
) -> Rows:
    """Return the nodes (n,) with a share of them made wrong, at least that share for whole products."""
    given, count = true.copy(), round(case.share * len(true))
    classes = np.unique(true)
    if case.errors == "product":
        for product in random.permutation(np.unique(products)):
            if (given != true).sum() >= count:
                break
            own = products == product
            given[own] = random.choice(classes[classes != true[own][0]])
        return given
    vectors = features(x)
    means = np.stack([vectors[true == node].mean(axis=0) for node in classes])
    means -= means.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for row in random.permutation(len(true))[:count]:
        others = classes[classes != true[row]]
        if case.errors == "random":
            given[row] = random.choice(others)
            continue
        siblings = others[parents[others] == parents[true[row]]]
        others = siblings if len(siblings) else others
        alike = means[np.searchsorted(classes, others)] @ means[np.searchsorted(classes, true[row])]
        given[row] = others[alike.argmax()]
    return given


def _groups(case: Case, products: NDArray[np.str_], random: np.random.Generator) -> Sequence[str | None]:
    if case.groups in {"unknown", "copies"}:
        return [None] * len(products)
    if case.groups == "products":
        return [str(product) for product in products]
    names, place = np.unique(products, return_inverse=True)
    return [f"report {number // _REPORT}" for number in random.permutation(len(names))[place]]


def _rows(doubts: Sequence[Doubt]) -> Rows:
    return np.array([doubt.row for doubt in doubts], np.int64)


def _curve(order: Rows, wrong: Flags) -> tuple[int, ...]:
    found = np.zeros(MOST, np.int64)
    found[: len(order[:MOST])] = wrong[order[:MOST]]
    return tuple(found.cumsum().tolist())


def _reasons(doubts: Sequence[Doubt], wrong: Flags) -> Iterator[Reason]:
    by_reason: Mapping[str, list[Doubt]] = {"views": [], "near-duplicates": [], "probability": []}
    for doubt in doubts:
        by_reason[doubt.reason].append(doubt)
    for reason, found in by_reason.items():
        either = sum(bool(wrong[d.row] or (d.other is not None and wrong[d.other])) for d in found)
        yield Reason(reason, len(found), int(sum(wrong[doubt.row] for doubt in found)), either)


if __name__ == "__main__":
    sys.exit(main())
