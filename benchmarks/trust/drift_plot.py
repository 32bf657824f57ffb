"""The plot of the drift's table: the share of streams that were found, by answers since the fall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.trust.drift import Line

_COLOURS = {"the watch": "tab:blue", "no restarts": "tab:orange", "last 200": "tab:grey"}
_MOST = 600


def plot(lines: Sequence[Line], within: int, path: Path) -> None:
    """Plot a panel for each begin of a fall to 0.7."""
    shown = [line for line in lines if line.case.after == 0.7 and not line.case.accepted]
    starts = sorted({line.case.start for line in shown})
    figure = Figure(figsize=(1.2 + 3.4 * len(starts), 3.6), layout="constrained", facecolor="white", dpi=110)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    for axes, start in zip(panels, starts, strict=True):
        for line in shown:
            if line.case.start == start:
                delays = np.array(line.delays, float)
                shares = [np.count_nonzero(delays <= answers) / line.streams for answers in range(_MOST + 1)]
                axes.plot(shares, color=_COLOURS[line.rule], label=line.rule)
        axes.axvline(within, color="black", linewidth=0.6, linestyle=":")
        axes.axhline(0.9, color="black", linewidth=0.6, linestyle=":")
        axes.set_title(f"0.9 falls to 0.7 after {start:,} answers", fontsize=10)
        axes.set_xlabel("answers since the fall")
        axes.set_ylim(0, 1.02)
    panels[0].set_ylabel("streams found")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    canvas.print_figure(path, format="png")
