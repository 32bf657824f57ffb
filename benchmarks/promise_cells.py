"""From the splits of the promise's table to its cells, and to the committed files: JSON, Markdown and a plot."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.promise_averages import averages
from benchmarks.promise_catalogue import STARTER, TREES
from benchmarks.promise_plot import plot
from benchmarks.promise_rules import CONFIDENCE
from taxonomist.taxonomy.calibration.clopper_pearson import clopper_pearson_lower_bound

RISK = round(1 - CONFIDENCE, 6)
_LEAST_SHARE = 0.02  # of the suggestions, for the worst node
NOTES = f"""
Every split divides the products: a head learns from labelled images of some, and is tested on all images of the others.
The promise has a confidence of {CONFIDENCE}: of the splits with a suggestion, at most {RISK:.0%} should be below the
target.

- *promise* is the discriminant (`TAXONOMIST_HEAD=lda`) with `fit_promise`. It learns in the space that all products
  outside the test have taught, where the labels are likelier there for models without their products. *top1* suggests
  its most likely leaf, and *fixed* the deepest node with a probability of at least .5, by the same head.
- *lists*: images without a path get a shortlist (`fit_shortlists`), which is right when it has the label. A list has at
  most five paths and at most a quarter of its level's nodes; *size* is the mean number of paths. *help* is a path or a
  list, so its coverage is the share of images that get help; the promise is tested on both together.
- *average* and *average-help* are paths, and paths or lists, with the promise `average`.
- *today* is the head "mlp" with `fit_calibration`: a fifth of its labels, by product, stop the training and calibrate.
  It is trained without augmented views. It has fewer splits, since its head takes seconds.
- *Labels* are those that a head learns from and is calibrated on. A project also keeps a fifth of its labels as a test
  part, which is left out here for both heads.
- *None* counts the splits without any suggestion. *Precision* is the mean over the splits with suggestions, *below* the
  share of them below the target, with its 95 % interval (Clopper and Pearson); *of all* is the share among all splits.
  All splits draw from one catalogue, so they are not quite independent, and the interval is somewhat too narrow.
- *Coverage* is the share of the tested images with a suggestion, *depth* the mean level of the suggestions.
- *Worst node*: precision of the worst level-1 node with at least 2 % of the suggestions, all splits together.
- *New*: precision on products that the starter's pre-training has not seen either.
"""
HEAD_NOTES = """
Means over the splits, with the standard deviation in brackets. No product is on both sides of a split. Labels are cut
to the nodes that the labels of training name. *F1* is the hierarchical F1 of the most likely leaf; *log-loss* is that
of the deepest known node, with probabilities of at least 0.0001; *seconds* are of one core, for learning, calibrating
and predicting the test part, on a machine that others used as well.

- *mlp* is the head of two layers, with a fifth of the labels to stop and calibrate it, without augmented views.
- *lda* is the discriminant, `TAXONOMIST_HEAD=lda`, with the predictions for unseen products that its calibration uses.
  It learns in the space that all products outside the test have taught, where the labels are likelier there. The time
  to learn the space is not in its *seconds*.
- *ensemble* is `TAXONOMIST_HEAD=ensemble`: *lda* and five of *mlp*, each of which learns without a fold of products.
- *logistic* is scikit-learn's LogisticRegression on standardised embeddings, one softmax over the leaves; its C is the
  best of three by the log-loss on three folds of products.
- *kNN*: ten nearest images by the cosine of centred embeddings, weighted by exp(10 cosine), with a fifth of the vote
  for the frequencies of the classes.
"""


@dataclass(frozen=True)
class Cell:
    """One line of a table. Numbers are None where no split has a suggestion."""

    tree: str
    eyes: str
    target: float
    labels: int
    rule: str
    splits: int
    none: int
    precision: float | None
    below: int
    interval: tuple[float, float]  # of the share of splits below the target, among those with a suggestion
    coverage: float
    depth: float | None
    size: float | None
    worst: float | None
    new: float | None

    @property
    def given(self) -> int:
        """Return the number of splits with a suggestion."""
        return self.splits - self.none


def interval(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share after Clopper and Pearson; (0, 1) of nothing."""
    low, high = clopper_pearson_lower_bound(count, of, 0.975), clopper_pearson_lower_bound(of - count, of, 0.975)
    return low, 1 - high


def cells_of(results: Iterable[Mapping[str, Any]], rules: Sequence[str]) -> list[Cell]:
    """Return the cells of all finished splits, in the order of tree, target, eyes, labels and rule."""
    splits: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        job = result["job"]
        for row in result["rows"]:
            splits[job["tree"], row["target"], job["eyes"], job["labels"], row["rule"]].append(row)
    ordered = sorted(splits, key=lambda key: (list(TREES).index(key[0]), *key[1:4], _place(rules, key[4])))
    return [_cell(key, splits[key]) for key in ordered if key[4] in rules]


def _place(rules: Sequence[str], rule: str) -> int:
    return list(rules).index(rule) if rule in rules else len(rules)


def _cell(key: tuple[Any, ...], rows: Sequence[Mapping[str, Any]]) -> Cell:
    tree, target, eyes, labels, rule = key
    given = [row for row in rows if row["suggested"]]
    below = sum(row["right"] / row["suggested"] < target for row in given)
    nodes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in given:
        for node, (right, count) in row["nodes"].items():
            nodes[node][0] += right
            nodes[node][1] += count
    total = sum(count for _, count in nodes.values())
    return Cell(
        tree,
        eyes,
        target,
        labels,
        rule,
        len(rows),
        len(rows) - len(given),
        _mean(row["right"] / row["suggested"] for row in given),
        below,
        interval(below, len(given)),
        float(np.mean([row["suggested"] / row["images"] for row in rows])),
        _mean(row["levels"] / row["suggested"] for row in given),
        _mean(row["sizes"] / row["suggested"] for row in given),
        min((right / count for right, count in nodes.values() if count >= _LEAST_SHARE * total), default=None),
        _mean(row["new"][0] / row["new"][1] for row in given if row["new"][1]) if eyes == STARTER else None,
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def write_rules(
    folder: Path, name: str, results: Sequence[Mapping[str, Any]], about: Mapping[str, Any], rules: Sequence[str]
) -> tuple[str, list[Path]]:
    """Write NAME.md, NAME.json and NAME.png; return the table and the paths."""
    cells = cells_of(results, rules)
    head = [
        "eyes",
        "labels",
        "rule",
        "splits",
        "none",
        "precision",
        "below (95 %)",
        "of all",
        "coverage",
        "depth",
        "size",
    ]
    head += ["worst node", "new"]
    lines = [
        *_title("The promise of precision", about),
        "",
        *_summary(cells),
        _in_the_space(results),
        "",
        f"![]({name}.png)",
    ]
    for tree, target in dict.fromkeys((cell.tree, cell.target) for cell in cells):
        own = [cell for cell in cells if (cell.tree, cell.target) == (tree, target)]
        lines += ["", f"## {tree}, target {target:g}", "", f"*{tree}*: {TREES[tree]}.", ""]
        lines += _table(head, 1, [_line(cell) for cell in own])
    lines += averages(results)
    table = "\n".join(lines) + "\n\n## How to read it\n" + NOTES
    values = {**about, "cells": [asdict(cell) for cell in cells]}
    made = _write(folder, name, table, values)
    plot(cells, RISK, folder / f"{name}.png")
    return table, [*made, folder / f"{name}.png"]


def _in_the_space(results: Sequence[Mapping[str, Any]]) -> str:
    chosen = [result["space"] for result in results if "space" in result]
    return f"The labels chose the space that products have taught in {sum(chosen):,} of {len(chosen):,} splits."


def _summary(cells: Sequence[Cell]) -> list[str]:
    """Return a line for the promise of paths, and one for that of paths and lists together."""
    return [
        _summary_of([cell for cell in cells if cell.rule == rule], name)
        for rule, name in (("promise", "promise"), ("help", "promise with lists"))
        if any(cell.rule == rule for cell in cells)
    ]


def _summary_of(cells: Sequence[Cell], name: str) -> str:
    given, below, splits = (sum(getattr(cell, name) for cell in cells) for name in ("given", "below", "splits"))
    if not given:
        return f"The {name} suggests nothing in any split."
    above = [f"{cell.tree} {cell.eyes} {cell.target:g} {cell.labels}" for cell in cells if cell.interval[0] > RISK]
    return (
        f"Of the {given:,} splits with a suggestion of the {name}, {below:,} are below the target: "
        f"{below / given:.3f} (of all {splits:,}: {below / splits:.3f}). At most {RISK:.2f} were promised. "
        f"{splits - given:,} splits have no suggestion. Cells whose interval lies wholly above {RISK:.2f}: "
        f"{', '.join(above) or 'none'}."
    )


def _line(cell: Cell) -> list[str]:
    low, high = cell.interval
    share = f"{cell.below}/{cell.given}" + (
        f" = {cell.below / cell.given:.2f} ({low:.2f}..{high:.2f})" if cell.given else ""
    )
    return [
        cell.eyes,
        f"{cell.labels:,}",
        cell.rule,
        str(cell.splits),
        str(cell.none),
        _number(cell.precision, 3),
        share,
        f"{cell.below / cell.splits:.2f}",
        f"{cell.coverage:.3f}",
        _number(cell.depth, 2),
        _number(cell.size, 1),
        _number(cell.worst, 2),
        _number(cell.new, 3),
    ]


def write_heads(
    folder: Path, name: str, results: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> tuple[str, list[Path]]:
    """Write NAME.md and NAME.json of the table of heads; return the table and the paths."""
    values: dict[tuple[str, str, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        job = result["job"]
        for row in result["rows"]:
            values[job["tree"], job["eyes"], job["labels"], row["head"]].append(row)
    lines = _title("Heads", about)
    for tree in dict.fromkeys(key[0] for key in values):
        own = {key: rows for key, rows in values.items() if key[0] == tree}
        lines += ["", f"## {tree}", "", f"*{tree}*: {TREES[tree]}.", ""]
        lines += _table(
            ["eyes", "labels", "head", "splits", "F1", "log-loss", "seconds"],
            1,
            [
                [eyes, f"{labels:,}", head, str(len(rows)), *_spreads(rows)]
                for (_, eyes, labels, head), rows in own.items()
            ],
        )
    table = "\n".join(lines) + "\n\n## How to read it\n" + HEAD_NOTES
    rows = [
        {"tree": tree, "eyes": eyes, "labels": labels, "head": head, "splits": rows}
        for (tree, eyes, labels, head), rows in values.items()
    ]
    return table, _write(folder, name, table, {**about, "rows": rows})


def _spreads(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for name, digits in (("f1", 3), ("loss", 3), ("seconds", 2)):
        values = [row[name] for row in rows]
        yield f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})"


def _title(title: str, about: Mapping[str, Any]) -> list[str]:
    machine = about["machine"]
    packages = ", ".join(f"{name} {machine['packages'][name]}" for name in ("numpy", "torch", "scikit-learn"))
    last = about["seed"] + about["splits"] - 1
    return [
        f"# {title}",
        "",
        f"`{about['command']}`, {machine['date'][:10]}",
        "",
        f"Seeds {about['seed']} to {last}. {machine['cpu']}, {machine['cores']} cores; Python {machine['python']}; "
        f"{packages}.",
    ]


def _table(head: Sequence[str], text: int, rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [["---"] * text + ["---:"] * (len(head) - text), *rows]
    return ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in (head, *cells)]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _write(folder: Path, name: str, table: str, values: Mapping[str, Any]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{name}.md", folder / f"{name}.json"]
    made[0].write_text(table, encoding="utf-8")
    made[1].write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return made
