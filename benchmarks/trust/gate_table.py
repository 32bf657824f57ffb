"""The table of the gate: which share of the worse and of the better challengers each rule serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.promise_cells import interval

Row = Mapping[str, Any]
Rule = Callable[[Row], float]
MARGIN = 0.005
MOST_WORSE, LEAST_BETTER = 0.15, 0.85
_ROUNDING = 1e-9
_MAIN = ("shuffled", "dropped", "resampled", "more")  # the others have no part in the shares of a size


def write(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    rules: Mapping[str, Rule],
    kinds: Mapping[str, str],
    about: Mapping[str, Any],
) -> str:
    """Write NAME.md; return the table."""
    lines = [
        "# The gate",
        "",
        f"`{about['command']}`, {about['machine']['date'][:10]}",
        "",
        f"Seeds {about['seed']} to {about['seed'] + about['splits'] - 1}. A challenger is *worse* or *better* if its "
        f"hierarchical F1 differs by more than {MARGIN} from the champion's, on all images of the products that are "
        f"neither learned from nor tested on. At 200 test images, at most {MOST_WORSE:.0%} of the worse should be "
        f"served, and at least {LEAST_BETTER:.0%} of the better.",
        "",
        *(f"- *{kind}*: {what}." for kind, what in kinds.items()),
    ]
    for tree in dict.fromkeys(row["tree"] for row in rows):
        own = [row for row in rows if row["tree"] == tree]
        lines += ["", f"## {tree}", "", *_truths(own, kinds)]
        for title, chosen in ((", ".join(_MAIN), _MAIN), ("the same with redrawn in place of resampled", _redrawn())):
            lines += ["", f"### {title}", "", *_table([row for row in own if row["kind"] in chosen], rules)]
        most = max(row["images"] for row in own)
        lines += ["", f"### Served by kind, at {most} test images (worse / between / better)", ""]
        lines += _by_kind([row for row in own if row["images"] == most], rules, kinds)
    table = "\n".join(lines) + "\n" + NOTES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
    return table


NOTES = """
## How to read it

- *Served* is the share of the challengers that the rule serves, among those that are truly worse, between, and better,
  with its 95 % interval (Clopper and Pearson).
  *AUC* is the chance that the rule's number is higher for a better challenger than for a worse one.
- *All other products* is a rule that no gate can have: it sees the F1 of half of the products of the truth, on all of
  their images, and is judged by the other half, so it counts other challengers as worse and better. It shows how well
  the truth itself is known.
- All rules see the same test images, drawn anew for each challenger. t is `compare_paired`'s: differences are added up
  by product. *Clipped*: a probability below 0.01 counts as 0.01; without it, one below 0.0001 counts as 0.0001. The
  log-loss *of the path* is the mean over both levels, the others are of level 2.
- *By images*: `worth_of_images` compares the numbers of images that challenger and champion have learned from; it is
  added to the sum of both t. Alone, it serves each challenger that has learned from as many images or more.
- *By images and path*: t(F1) + t(log-loss of the path) + the worth of the images is at least -0.7.
- *Training images* are judged by ten-fold predictions: both heads learn without a tenth of the products and predict
  these. They are the images that either has learned from, with the label of one where the other has none, without those
  whose labels differ.
- The rule in bold was chosen on the seeds 6000 to 6032. `--tried` shows weights and limits that it was chosen from.
- All splits draw from one catalogue, and the challengers of a split share their champion, so they are not quite
  independent.
"""


def _redrawn() -> tuple[str, ...]:
    return tuple("redrawn" if kind == "resampled" else kind for kind in _MAIN)


def _truths(rows: Sequence[Row], kinds: Iterable[str]) -> list[str]:
    lines = ["| kind | challengers | mean gain | worse | between | better |", "| --- |" + " ---: |" * 5]
    most = max(row["images"] for row in rows)
    for kind in kinds:
        truth = np.array([row["truth"] for row in rows if row["kind"] == kind and row["images"] == most])
        worse, better = int((truth < -MARGIN).sum()), int((truth > MARGIN).sum())
        between = len(truth) - worse - better
        lines.append(f"| {kind} | {len(truth)} | {truth.mean():+.4f} | {worse} | {between} | {better} |")
    return lines


def _table(rows: Sequence[Row], rules: Mapping[str, Rule]) -> list[str]:
    lines = ["| test images | products | rule | worse served | between served | better served | AUC |"]
    lines.append("| ---: | ---: | --- |" + " ---: |" * 4)
    for count in sorted({row["images"] for row in rows}):
        own = [row for row in rows if row["images"] == count]
        products = f"{np.mean([row['products'] for row in own]):.0f}"
        truth = np.array([row["truth"] for row in own])
        for name, rule in rules.items():
            lines.append(f"| {count} | {products} | {name} | " + _line(np.array([rule(row) for row in own]), truth))
    most = [row for row in rows if row["images"] == max(row["images"] for row in rows)]
    halves = np.array([row["halves"] for row in most])
    lines.append("| | | all other products | " + _line(halves[:, 0], halves[:, 1]))
    return lines


def _line(value: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> str:
    served = value >= -_ROUNDING
    worse, better = truth < -MARGIN, truth > MARGIN
    shares = [_share(served[part]) for part in (worse, ~worse & ~better, better)]
    return f"{' | '.join(shares)} | {_auc(value[better], value[worse])} |"


def _share(served: np.ndarray[Any, Any]) -> str:
    if not len(served):
        return "none"
    low, high = interval(int(served.sum()), len(served))
    return f"{served.mean():.3f} of {len(served)} ({low:.2f}..{high:.2f})"


def _auc(better: np.ndarray[Any, Any], worse: np.ndarray[Any, Any]) -> str:
    if not len(better) or not len(worse):
        return ""
    difference = better[:, None] - worse[None, :]
    return f"{((difference > 0).mean() + (difference == 0).mean() / 2):.3f}"


def _by_kind(rows: Sequence[Row], rules: Mapping[str, Rule], kinds: Iterable[str]) -> list[str]:
    kinds = list(kinds)
    lines = ["| rule |" + "".join(f" {kind} |" for kind in kinds), "| --- |" + " ---: |" * len(kinds)]
    for name, rule in rules.items():
        cells = []
        for kind in kinds:
            own = [row for row in rows if row["kind"] == kind]
            truth = np.array([row["truth"] for row in own])
            served = np.array([rule(row) for row in own]) >= -_ROUNDING
            parts = (truth < -MARGIN, abs(truth) <= MARGIN, truth > MARGIN)
            cells.append(" / ".join(f"{served[part].mean():.2f}" if part.any() else "-" for part in parts))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
