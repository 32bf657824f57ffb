"""The table of `benchmarks.projection`: means over the splits, and paired differences with intervals over products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COLUMNS: Mapping[str, str] = {
    "R@1": "R@1",
    "pairs": "pairs found",
    "same kind": "nearest label, level 2",
    "probe few 1": "probe, few: level 1 F1",
    "probe many 1": "probe: level 1 F1",
    "probe many 2": "probe: level 2 accuracy",
    "head few 1": "head, few: level 1 F1",
    "head many 1": "head: level 1 F1",
    "head many 2": "head: level 2 accuracy",
    "carried 1": "head, products: level 1 F1",
    "carried 2": "head, products: level 2 accuracy",
}
ACCURACIES = ("R@1", "pairs", "same kind")
DRAWS = 500
NOTES = """
Rendered catalogue products. Each split leaves out a quarter of the products and tests on every second view of them;
projections are fitted on all images of the others, without labels.

- *Spaces*: *none* is the embedding as it is, *signed root* takes signed roots and the length 1, as the head `lda` does.
  The others start from it, subtract the mean, and use the covariance within products, shrunk by half. *Numbers* is the
  size of an embedding.
- *R@1*: the nearest tested image shows the same product. *Pairs found*: the share of the pairs of one product that are
  more similar than all but 18 in a million pairs of two products, as for near-duplicates (the mean is subtracted).
  *Nearest label*: the nearest of the labelled images, always another product, has the same kind at level 2.
- *Probe*: logistic regression (balanced, C 0.01) on standardised embeddings. *Head*: `lda`, as it is served; for
  projected embeddings without its own signed root. *Few* are 411 labels of as many products, otherwise there are 1,000
  labels drawn at random. *Products*: a label counts for the other images of its product. F1 is the macro average over
  the classes of the tested images.

The second table has the differences to *none* and their 95 % intervals: products are drawn with replacement
(500 draws), and each figure is computed again in each split.
"""
DECISIONS = """
## What a training decides

The space of look-alikes is *LDA on products, 256*. A training learns it from four fifths of the products that it
knows, and keeps it if the others speak for it. The figures are of the quarter that the training does not know, without
the space and with it, each product counts once: the share of images whose nearest one shows the *same product*, and how
much of the *label* the nearest labelled image has. *Worse* counts the splits in which a space was kept and the figure
is lower.
"""


@dataclass(frozen=True)
class Hits:
    """What is predicted for n images: hits or shares, `values` (n,), and the classes (n,) where there are any."""

    values: Floats
    true: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, values: NDArray[np.generic]) -> Hits:
        """Return hits, or shares, of n images."""
        return cls(values.astype(np.float64))

    @classmethod
    def of_classes(cls, true: NDArray[np.int64], predicted: NDArray[np.int64]) -> Hits:
        """Return the classes of n images."""
        return cls((true == predicted).astype(np.float64), true, predicted)


@dataclass(frozen=True)
class Split:
    """The products (n,) of the tested images, and the hits by space and column."""

    products: NDArray[np.str_]
    hits: Mapping[str, Mapping[str, Hits]]

    def save(self, path: Path) -> None:
        """Write the split into a .npz file, at once."""
        arrays = {
            f"{space}|{column}|{name}": array
            for space, columns in self.hits.items()
            for column, hits in columns.items()
            for name in ("values", "true", "predicted")
            if (array := getattr(hits, name)) is not None
        }
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, products=self.products, **arrays)
        unfinished.rename(path)

    @classmethod
    def load(cls, path: Path) -> Split:
        """Return the split in a file."""
        found: dict[str, dict[str, dict[str, NDArray[np.generic]]]] = {}
        with np.load(path) as arrays:
            for key in arrays.files:
                if key != "products":
                    space, column, name = key.split("|")
                    found.setdefault(space, {}).setdefault(column, {})[name] = arrays[key]
            products = arrays["products"]
        hits = {
            space: {column: Hits(**parts) for column, parts in columns.items()}  # type: ignore[arg-type]
            for space, columns in found.items()
        }
        return cls(products, hits)


@dataclass(frozen=True)
class Gate:
    """Whether a training keeps the space of look-alikes, and its figures on unseen products: without it, and with."""

    served: bool
    same_product: tuple[float, float]
    same_labels: tuple[float, float]


def table(
    results: Mapping[str, Sequence[Split]],
    gates: Mapping[str, Sequence[Gate]],
    sizes: Mapping[str, int],
    command: str,
    note: str,
) -> str:
    """Return the tables in Markdown; `sizes` has the numbers of each embedding."""
    lines = ["# A projection learned from products", "", command, *(("", note) if note else ()), NOTES]
    head = ["embedding", "space", "numbers", *COLUMNS.values()]
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    plain, differences = [head, rule], [[*head[:2], *head[3:]], rule[:2] + rule[3:]]
    for name, splits in results.items():
        drawn = {column: _figures(splits, column) for column in COLUMNS}
        for space in splits[0].hits:
            size = space.rpartition(", ")[2]
            plain.append([name, space, size if size.isdigit() else str(sizes[name])])
            plain[-1] += [f"{drawn[column][space][0]:.3f}" if space in drawn[column] else "" for column in COLUMNS]
            if space != "none":
                differences.append([name, space, *(_difference(drawn[column], space) for column in COLUMNS)])
    for rows in (plain, differences):
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*lines, *_decisions(gates)]).rstrip() + "\n"


def _decisions(gates: Mapping[str, Sequence[Gate]]) -> list[str]:
    """Return the table of what trainings decide."""
    lines = [DECISIONS, "| embedding | kept | same product | | worse | same label | | worse |"]
    lines.append("| --- " + "| ---: " * 7 + "|")
    for name, decisions in gates.items():
        cells = [name, f"{sum(gate.served for gate in decisions)} of {len(decisions)}"]
        for figure in ("same_product", "same_labels"):
            before, after = np.array([getattr(gate, figure) for gate in decisions]).T
            worse = sum(gate.served and getattr(gate, figure)[1] < getattr(gate, figure)[0] for gate in decisions)
            cells += [f"{before.mean():.3f}", f"{after.mean():.3f}", str(worse)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _difference(figures: Mapping[str, Floats], space: str) -> str:
    if space not in figures:
        return ""
    differences = figures[space] - figures["none"]
    low, high = np.quantile(differences[1:], (0.025, 0.975))
    return f"{differences[0]:+.3f} ({low:+.3f} to {high:+.3f})"


def _figures(splits: Sequence[Split], column: str) -> dict[str, Floats]:
    """Return by space the figure, first of all products, then of each draw of products; the mean over the splits."""
    names = np.unique(np.concatenate([split.products for split in splits]))
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    weights = np.concatenate([np.ones((1, len(names))), draws])
    return {
        space: np.mean(
            [_weighted(split.hits[space][column], split.products, names, weights, column) for split in splits], axis=0
        )
        for space in splits[0].hits
        if column in splits[0].hits[space]
    }


def _weighted(hits: Hits, products: NDArray[np.str_], names: NDArray[np.str_], weights: Floats, column: str) -> Floats:
    """Return the accuracy or macro-F1 (draws,) for the weight of each product in each draw."""
    own = np.searchsorted(names, products)
    images = weights[:, own]  # (draws, n)
    if column in ACCURACIES or column.endswith("2"):
        accuracy: Floats = images @ hits.values / np.maximum(images.sum(axis=1), 1e-12)
        return accuracy
    assert hits.true is not None
    assert hits.predicted is not None
    classes = np.unique(hits.true)
    is_true = (hits.true[:, None] == classes).astype(np.float64)
    is_predicted = (hits.predicted[:, None] == classes).astype(np.float64)
    true = images @ is_true  # (draws, classes)
    f1 = 2 * (images @ (is_true * is_predicted)) / np.maximum(true + images @ is_predicted, 1e-12)
    present: Floats = (f1 * (true > 0)).sum(axis=1) / (true > 0).sum(axis=1)
    return present
