"""Writes the table of `benchmarks.trust.product_spaces`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Results = Sequence[Mapping[str, Any]]
TODAY, IDENTITY, WITHIN = "today", "identity 0.8", "covariance within products"
LDA = {f"LDA on products, {dimension}": dimension for dimension in (256, 512)}
_SINGLE = {
    "f1": "hierarchical F1",
    "level 1": "level 1 accuracy",
    "level 2": "level 2 accuracy",
    "loss": "log-loss",
    "held out": "held-out log-loss",
}
_GROUPED = {
    f"{kind} {key}": f"{kind}: {name}"
    for kind in ("alone", "carried", "fused")
    for key, name in (("level 1", "level 1"), ("level 2", "level 2"), ("loss", "log-loss"))
}


def write(output: Path, name: str, results: Results, about: Mapping[str, Any]) -> tuple[str, list[Path]]:
    """Write NAME.md and NAME.json; return the table and the files."""
    table = "\n".join([*_head(about), *_single(results), *_chosen(results), *_grouped(results)]) + "\n"
    output.mkdir(parents=True, exist_ok=True)
    made = [output / f"{name}.md", output / f"{name}.json"]
    made[0].write_text(table, encoding="utf-8")
    made[1].write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    return table, made


def _head(about: Mapping[str, Any]) -> list[str]:
    return [
        "# What unlabelled products could teach the head",
        "",
        f"`{about['command']}`, seeds {about['seed']} to {about['seed'] + about['splits'] - 1}. "
        f"{about['machine']['cpu']}.",
        "",
        "Rendered catalogue products, EfficientNet-Lite0 at 160 pixels in fp32, the head `lda`. "
        f"{about['test_share']:.0%} of the products are tested. What is learned from products, without labels, comes "
        "from all images of the others. The heads are:",
        "",
        f"- *{TODAY}*: the head without a space. Its covariance is that of the labels, shrunk to the identity by 0.6.",
        f"- *{IDENTITY}*: shrunk by 0.8.",
        f"- *{WITHIN}*: a fifth of the covariance is that of the labels, a fifth that within products (both with the "
        "same trace), the rest the identity.",
        "- *LDA on products*: the head learns in the space of the look-alikes, scaled to length 1, with 256 or 512 "
        "numbers. The product has the latter where the held-out log-loss is lower.",
        "",
        "Log-loss is that of the labels that were learned, with P clipped to 0.0001. *Held-out log-loss* is that of "
        "the labels of training, predicted by models without their products. These products have taught the space or "
        "the covariance: where the held-out log-loss falls more than that of the test, the calibration is too "
        "optimistic. Rows below *today* are differences to it, with the standard error of the mean over the splits, "
        "which draw from one catalogue.",
        "",
    ]


def _single(results: Results) -> Iterable[str]:
    yield from ("## One image at a time", "")
    yield "| tree | labels | head | " + " | ".join(_SINGLE.values()) + " |"
    yield "| --- | ---: | --- |" + " ---: |" * len(_SINGLE)
    for (tree, labels), rows in _cells(results).items():
        if labels is not None:
            for head in rows[0]:
                yield f"| {tree} | {labels:,} | {head} | {_columns(rows, head, _SINGLE)} |"
    yield ""


def _chosen(results: Results) -> Iterable[str]:
    yield from ("## What the held-out log-loss would choose", "")
    yield "Splits in which it is lower than today's, and those of them in which the test says the opposite."
    yield ""
    yield "| tree | labels | head | chosen | log-loss is higher | hierarchical F1 is lower |"
    yield "| --- | ---: | --- | ---: | ---: | ---: |"
    for (tree, labels), rows in _cells(results).items():
        for head in rows[0] if labels is not None else ():
            chosen = [row for row in rows if row[head]["held out"] < row[TODAY]["held out"]]
            worse = [
                sum(row[head]["loss"] > row[TODAY]["loss"] for row in chosen),
                sum(row[head]["f1"] < row[TODAY]["f1"] for row in chosen),
            ]
            if head != TODAY:
                yield f"| {tree} | {labels:,} | {head} | {len(chosen)} of {len(rows)} | {worse[0]} | {worse[1]} |"
    yield ""


def _grouped(results: Results) -> Iterable[str]:
    yield from ("## Where labels count for products", "")
    yield (
        "568 labels, new products first, as in [images of one product](2026-11-28-groups-thirty.md). *Alone*: without "
        "products. *Carried*: a label counts for its product, each image is predicted alone. *Fused*: the images of a "
        "product are predicted together where that is a gain."
    )
    yield ""
    yield "| tree | head | " + " | ".join(_GROUPED.values()) + " |"
    yield "| --- | --- |" + " ---: |" * len(_GROUPED)
    for (tree, labels), rows in _cells(results).items():
        for head in rows[0] if labels is None else ():
            yield f"| {tree} | {head} | {_columns(rows, head, _GROUPED)} |"
    yield ""
    yield "The gain of *fused* over *alone* of the head that is served, with the standard error of the mean:"
    yield ""
    yield "| tree | head | level 1 | level 2 |"
    yield "| --- | --- | ---: | ---: |"
    for (tree, labels), rows in _cells(results).items():
        for head in rows[0] if labels is None else ():
            gains = [
                _mean([row[head][f"fused level {level}"] - row[TODAY][f"alone level {level}"] for row in rows])
                for level in (1, 2)
            ]
            yield f"| {tree} | {head} | {' | '.join(gains)} |"


def _cells(results: Results) -> Mapping[tuple[str, int | None], list[Mapping[str, Mapping[str, float]]]]:
    """Return the heads of each split by tree and number of labels."""
    cells: dict[tuple[str, int | None], list[Mapping[str, Mapping[str, float]]]] = {}
    for tree, labels in sorted({(row["job"]["tree"], row["job"]["labels"] or 0) for row in results}):
        chosen = [row["heads"] for row in results if (row["job"]["tree"], row["job"]["labels"] or 0) == (tree, labels)]
        cells[tree, labels or None] = chosen
    return cells


def _columns(rows: Sequence[Mapping[str, Mapping[str, float]]], head: str, names: Iterable[str]) -> str:
    columns = []
    for name in names:
        if head == TODAY:
            columns.append(f"{np.mean([row[head][name] for row in rows]):.3f}")
        else:
            columns.append(_mean([row[head][name] - row[TODAY][name] for row in rows]))
    return " | ".join(columns)


def _mean(values: Sequence[float]) -> str:
    """Return the mean of differences, with its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):+.3f} ± {error:.3f}"
