"""Writes the table of `benchmarks.trust.groups`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Results = Sequence[Mapping[str, Any]]
KINDS = ("alone", "carried", "fused")


def write(output: Path, name: str, results: Results, about: Mapping[str, Any]) -> tuple[str, list[Path]]:
    """Write NAME.md and NAME.json; return the table and the files."""
    table = "\n".join([*_head(about), *_accuracy(results), *_promise(results), *_purity(results)]) + "\n"
    output.mkdir(parents=True, exist_ok=True)
    made = [output / f"{name}.md", output / f"{name}.json"]
    made[0].write_text(table, encoding="utf-8")
    made[1].write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    return table, made


def _head(about: Mapping[str, Any]) -> list[str]:
    return [
        "# Images of one product help each other",
        "",
        f"`{about['command']}`, seeds {about['seed']} to {about['seed'] + about['splits'] - 1}.",
        "",
        f"Rendered catalogue products, the tree *{about['tree']}*, EfficientNet-Lite0 at 160 pixels, the head `lda`. "
        f"{about['labels']} images have labels, {about['test_share']:.0%} of the products are tested; "
        f"{about['splits']} splits by product, in each of which both parts are grouped.",
        "",
        "- *Alone*: each image teaches, and is predicted, alone.",
        "- *Carried*: a label counts for the other images of its group, and the head learns in the space that groups "
        "have taught without labels, where the labels are likelier there (*space* counts these splits).",
        "- *Fused*: the images of a group are predicted together, too, where that is a gain for the labels.",
        "",
        "Both go only as deep as the labelled groups of the training part are pure: the lower bound of their agreement "
        f"is at least {about['least']}. *Depth* is the mean of this depth. Accuracy is that of the likeliest path, the "
        "mean over the splits; *gain* is that of *fused* over *alone*, with the 95 % interval of the mean (all splits "
        "draw from one catalogue, so it is somewhat too narrow); *worse* counts the splits in which *fused* is below "
        "*alone*.",
        "",
    ]


def _accuracy(results: Results) -> list[str]:
    lines = []
    for order in dict.fromkeys(row["order"] for row in results):
        lines += [
            f"## Labels: {order}",
            "",
            "| groups | depth | space | level 1 alone | carried | fused | gain | worse "
            "| level 2 alone | carried | fused | gain | worse |",
            "| --- |" + " ---: |" * 12,
        ]
        for groups, rows in _by_groups(results, order):
            cells = [f"{np.mean([row['depth'] for row in rows]):.1f}"]
            cells.append(f"{sum(row['space'] for row in rows)} of {len(rows)}")
            for level in ("level 1", "level 2"):
                alone, carried, fused = (np.array([row[kind][level] for row in rows]) for kind in KINDS)
                cells += [f"{values.mean():.3f}" for values in (alone, carried, fused)]
                cells += [_gain(fused - alone), f"{(fused < alone - 1e-12).sum()} of {len(rows)}"]
            lines.append(f"| {groups} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _gain(gains: NDArray[np.float64]) -> str:
    """Return the mean over splits, with its 95 % interval where there are several."""
    if len(gains) < 2:
        return f"{gains.mean():+.3f}"
    half = NormalDist().inv_cdf(0.975) * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{gains.mean():+.3f} ({gains.mean() - half:+.3f}..{gains.mean() + half:+.3f})"


def _promise(results: Results) -> list[str]:
    lines = [
        "## The promise",
        "",
        "Share of the images with a suggestion, its precision (of the suggestions of all splits together), and splits "
        "whose precision is below the target, by splits with a suggestion. `sure` allows 20 % of these; `average` "
        "promises the precision, not the splits. *Together* counts the splits in which images of a group are predicted "
        "together: where the labels of training gain by it, and no fewer images get a path. These have a calibration "
        "of their own; an image without others in its group is predicted as in *carried*.",
        "",
        "| labels | groups | promise | target | together | coverage alone | carried | fused "
        "| precision alone | carried | fused | below alone | carried | fused |",
        "| --- | --- | --- |" + " ---: |" * 11,
    ]
    for order in dict.fromkeys(row["order"] for row in results):
        for groups, rows in _by_groups(results, order):
            for promise, target in product(("sure", "average"), (0.8, 0.9)):
                parts: list[list[str]] = [[], [], []]
                for kind in KINDS:
                    images, made, right = np.array([row[kind][f"{promise} {target}"] for row in rows]).T
                    some = made > 0
                    below = int((right[some] < target * made[some]).sum())
                    parts[0].append(f"{made.sum() / images.sum():.3f}")
                    parts[1].append(f"{right.sum() / made.sum():.3f}" if some.any() else "")
                    parts[2].append(f"{below} of {some.sum()}")
                cells = [cell for part in parts for cell in part]
                together = sum(row["fused"][f"{promise} {target} together"] for row in rows)
                cells = [order, groups, promise, str(target), f"{together} of {len(rows)}", *cells]
                lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _purity(results: Results) -> list[str]:
    lines = [
        "## Purity",
        "",
        "What the labelled groups say: groups with two labels or more, agreement, and its lower bound (confidence "
        "0.9), each the mean over the splits.",
        "",
        "| labels | groups | groups seen | level 1 | bound | level 2 | bound |",
        "| --- | --- |" + " ---: |" * 5,
    ]
    for order in dict.fromkeys(row["order"] for row in results):
        for groups, rows in _by_groups(results, order):
            purity = np.array([row["purity"] for row in rows]).mean(axis=0)
            values = [f"{purity[0][0]:.0f}", *(f"{value:.3f}" for level in purity for value in level[1:])]
            lines.append(f"| {order} | {groups} | {' | '.join(values)} |")
    return lines


def _by_groups(results: Results, order: str) -> list[tuple[str, Results]]:
    rows = [row for row in results if row["order"] == order]
    return [
        (groups, [row for row in rows if row["groups"] == groups])
        for groups in dict.fromkeys(r["groups"] for r in rows)
    ]
