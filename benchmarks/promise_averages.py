"""What the two promises keep on average over the splits, and what they suggest: tables of `benchmarks.promise`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.promise_rules import PROMISES

NOTES = """
The promise *average* is about many versions, so its table has means over the splits, with 95 % intervals of these means
(1.96 standard errors). *Precision* is the mean over the splits with a suggestion. *Of all* is the precision of the
suggestions of all splits together, which *average* promises; a split with many suggestions weighs more. *Sure* is the
promise with a confidence of 80 %, on the same splits. The rule was chosen on the seeds 1000 to 1039, with Lite0.
"""
_HEAD = ("eyes", "labels", "what", "promise", "splits", "none", "precision", "of all", "below", "coverage")
_WHAT = {0: "paths", -1: "paths and lists"}


def averages(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the tables, none where no split has the rules of `average`."""
    splits: dict[tuple[Any, ...], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        job = result["job"]
        for row in result["rows"]:
            splits[job["tree"], row["target"], job["eyes"], job["labels"]][row["rule"]].append(row)
    if not any(PROMISES["average"][0] in rules for rules in splits.values()):
        return []
    lines = ["", "## On average", NOTES.rstrip()]
    for tree, target in dict.fromkeys(key[:2] for key in splits):
        lines += ["", f"### {tree}, target {target:g}, on average", ""]
        lines += [_cells(_HEAD), _cells(["---"] + ["---:"] * (len(_HEAD) - 1))]
        for (_, _, eyes, labels), rules in ((key, splits[key]) for key in sorted(splits) if key[:2] == (tree, target)):
            lines += [
                _cells([eyes, f"{labels:,}", what, promise, *_figures(rules[names[place]], target)])
                for place, what in _WHAT.items()
                for promise, names in PROMISES.items()
                if rules.get(names[place])
            ]
    return lines


def _figures(rows: Sequence[Mapping[str, Any]], target: float) -> list[str]:
    right, suggested, images = (
        np.array([row[name] for row in rows], float) for name in ("right", "suggested", "images")
    )
    given = suggested > 0
    precisions = right[given] / suggested[given]
    figures = [str(len(rows)), str(int((~given).sum()))]
    if not len(precisions):
        return [*figures, "", "", "0", "0.000"]
    pooled = right.sum() / suggested.sum()
    # The error of a ratio of means: that of the residuals (Cochran 1977, Sampling techniques, 2.11).
    error = np.sqrt(len(rows) / max(len(rows) - 1, 1) * ((right - pooled * suggested) ** 2).sum()) / suggested.sum()
    spread = precisions.std(ddof=1) / np.sqrt(len(precisions)) if len(precisions) > 1 else np.nan
    return [
        *figures,
        _interval(float(precisions.mean()), float(spread)),
        _interval(float(pooled), float(error)),
        str(int((precisions < target).sum())),
        f"{(suggested / images).mean():.3f}",
    ]


def _interval(mean: float, error: float) -> str:
    return f"{mean:.3f}" + (f" ± {1.96 * error:.3f}" if np.isfinite(error) else "")


def _cells(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
