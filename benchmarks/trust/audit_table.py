"""The table and the plot of the audit's simulation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from benchmarks.trust.audit import Case, Draw

AT = (50, 100, 200)
_OURS = "audit"
_NOTES = """
Labels are those of random images of the catalogue. *Wrong* labels are made: *random*, any other class; *sibling*, the
most similar class below the same parent (by the means of the classes), or of all where it has none; *product*, all
images of a product get the same other class.
The true labels are the catalogue's; a few per cent of them are arguable, and count as right here.

- *audit* is `taxonomist audit`; *audit, model alone* is its order without products and near-duplicates.
- *probability of the given label*: the lowest first, by a discriminant that did not learn from the product.
- *confident learning* (Northcutt et al. 2021) prunes by noise rate with the same probabilities, and sorts by
  self-confidence or by margin; *folds of images*: other views of the product were learned from.
- *P* is the precision and *R* the recall of the first 50, 100 and 200 findings: means over the draws. *sd* is the
  standard deviation of the precision at 100.
- *Reports*: images are grouped by reports of three products in place of products. *Unknown*: no product is known.
  *Copies*: nor is it here, and 5 % of the images are there twice, as a file that was uploaded again.
"""


def write(folder: Path, name: str, draws: Sequence[Draw], about: Mapping[str, Any]) -> tuple[str, tuple[Path, ...]]:
    """Write the table and the plot; return the table and the files."""
    curves: dict[Case, dict[str, NDArray[np.float64]]] = {}
    wrong: dict[Case, float] = {}
    for case, own in _by_case(draws).items():
        methods = [ranking.method for ranking in own[0].rankings]
        wrong[case] = float(np.mean([draw.rankings[0].wrong for draw in own]))
        curves[case] = {
            method: np.array([draw.rankings[number].curve for draw in own], np.float64)
            for number, method in enumerate(methods)
        }
    lines = ["# Which wrong labels the audit finds", "", f"`{about['command']}`", ""]
    lines += ["Draws use the seeds from the given one on. " + _machine(about), "", _NOTES.strip("\n"), ""]
    lines += _methods(curves, wrong) + _better(curves) + _reasons(draws)
    lines += [f"![Recall by the number of findings]({name}.png)", ""]
    text = "\n".join(lines)
    table, picture = folder / f"{name}.md", folder / f"{name}.png"
    table.write_text(text, encoding="utf-8")
    _plot(curves, wrong, picture)
    return text, (table, picture)


def _machine(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    numpy = machine["packages"].get("numpy", np.__version__)
    return f"Measured on {machine['date'][:10]} with Python {machine['python']} and numpy {json.dumps(numpy)[1:-1]}."


def _by_case(draws: Sequence[Draw]) -> dict[Case, list[Draw]]:
    cases: dict[Case, list[Draw]] = defaultdict(list)
    for draw in draws:
        cases[draw.case].append(draw)
    return dict(cases)


def _title(case: Case) -> str:
    groups = "" if case.groups == "products" else f", {case.groups}"
    return f"{case.labels:,} labels, {case.errors} {case.share:.0%}{groups}"


def _methods(curves: Mapping[Case, Mapping[str, NDArray[np.float64]]], wrong: Mapping[Case, float]) -> list[str]:
    head = " | ".join(f"{letter}@{count}" for letter in "PR" for count in AT)
    lines = ["## Methods", "", f"| case | wrong | method | {head} | sd |", "| --- " * 10 + "|"]
    for case, methods in curves.items():
        for method, curve in methods.items():
            found = [curve[:, count - 1].mean() for count in AT]
            numbers = [value / count for value, count in zip(found, AT, strict=True)]
            numbers += [value / wrong[case] for value in found] + [curve[:, 99].std() / 100]
            values = " | ".join(f"{value:.2f}" for value in numbers)
            lines.append(f"| {_title(case)} | {wrong[case]:.0f} | {method} | {values} |")
    return [*lines, ""]


def _better(curves: Mapping[Case, Mapping[str, NDArray[np.float64]]]) -> list[str]:
    lines = ["## Where another method finds more", "", "By more than one wrong label, on average.", ""]
    for case, methods in curves.items():
        for method, curve in methods.items():
            for count in AT:
                ours, others = methods[_OURS][:, count - 1].mean(), curve[:, count - 1].mean()
                if others > ours + 1:
                    lines.append(f"- {_title(case)}, {count} findings: {method} {others:.1f}, {_OURS} {ours:.1f}")
    return [*(lines if len(lines) > 4 else [*lines, "Nowhere."]), ""]


def _reasons(draws: Sequence[Draw]) -> list[str]:
    lines = ["## The audit's findings by reason", "", "*Either* counts a finding as right when one of its two images"]
    lines += ["has a wrong label: the audit shows both. Findings of all draws together, beyond the first 200, too.", ""]
    lines += ["| case | reason | findings a draw | precision | either |", "| --- " * 5 + "|"]
    for case, own in _by_case(draws).items():
        for number, first in enumerate(own[0].reasons):
            found = [draw.reasons[number] for draw in own]
            findings = sum(reason.findings for reason in found)
            wrong, either = sum(reason.wrong for reason in found), sum(reason.either for reason in found)
            shares = f"{wrong / findings:.2f} | {either / findings:.2f}" if findings else "- | -"
            lines.append(f"| {_title(case)} | {first.reason} | {findings / len(own):.1f} | {shares} |")
    return [*lines, ""]


def _plot(curves: Mapping[Case, Mapping[str, NDArray[np.float64]]], wrong: Mapping[Case, float], path: Path) -> None:
    shown = [case for case in curves if case.share == 0.05 and case.groups == "products"]
    columns = max(1, len(shown) // 2)
    figure = Figure(figsize=(1 + 3.6 * columns, 7), layout="constrained", facecolor="white", dpi=110)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(2, columns, sharey=True, squeeze=False).ravel()
    for axes, case in zip(panels, shown, strict=False):
        for method, curve in curves[case].items():
            width = 2.2 if method == _OURS else 1
            axes.plot(curve.mean(axis=0) / wrong[case], label=method, linewidth=width)
        axes.set_title(_title(case), fontsize=10)
        axes.set_xlabel("findings")
    panels[0].set_ylabel("recall")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    canvas.print_figure(path, format="png")
