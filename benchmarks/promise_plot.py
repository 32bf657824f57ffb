"""The plot of the promise's table: the share of splits below the target, by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.promise_cells import Cell

_STYLES: Mapping[str, tuple[str, str]] = {
    "promise": ("tab:blue", "o"),
    "help": ("tab:green", "v"),
    "today": ("tab:orange", "s"),
    "top1": ("tab:red", "^"),
    "fixed": ("tab:grey", "D"),
    "average": ("tab:purple", "P"),
}
_SHIFT = 1.045  # between the rules, so that their intervals do not hide each other


def plot(cells: Sequence[Cell], risk: float, path: Path) -> None:
    """Plot a panel for each target, tree and eyes; splits without a suggestion are left out."""
    columns = list(dict.fromkeys((cell.tree, cell.eyes) for cell in cells))
    targets = sorted({cell.target for cell in cells})
    rules = [rule for rule in _STYLES if any(cell.rule == rule for cell in cells)]
    size = (1.2 + 3.4 * len(columns), 1.4 + 3.0 * len(targets))
    figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=110)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(targets), len(columns), sharex=True, sharey=True, squeeze=False)
    for row, target in enumerate(targets):
        for column, (tree, eyes) in enumerate(columns):
            own = [cell for cell in cells if (cell.tree, cell.eyes, cell.target) == (tree, eyes, target)]
            _panel(panels[row, column], own, rules, risk)
            panels[row, column].set_title(f"{tree}, {eyes}, target {target:g}", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("labels")
    for axes in panels[:, 0]:
        axes.set_ylabel("splits below the target")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 2 * len(columns)), frameon=False)
    canvas.print_figure(path, format="png")


def _panel(axes: Any, cells: Sequence[Cell], rules: Sequence[str], risk: float) -> None:
    ticks = sorted({cell.labels for cell in cells})
    for number, rule in enumerate(rules):
        colour, marker = _STYLES[rule]
        own = [cell for cell in cells if cell.rule == rule and cell.given]
        shares = [cell.below / cell.given for cell in own]
        places = [cell.labels * _SHIFT ** (number - (len(rules) - 1) / 2) for cell in own]
        low = [share - cell.interval[0] for share, cell in zip(shares, own, strict=True)]
        high = [cell.interval[1] - share for share, cell in zip(shares, own, strict=True)]
        axes.errorbar(
            places,
            shares,
            [[max(value, 0.0) for value in low], [max(value, 0.0) for value in high]],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            elinewidth=1,
            capsize=2,
            label=rule,
        )
    axes.axhline(risk, color="black", linestyle="--", linewidth=1, label=f"promised: at most {risk:.2f}")
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8, rotation=45)
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", color="0.9")
