"""Learning curves and confusion matrices as PNG, without a display and without pyplot's global state."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from taxonomist.training.heads.evaluation import LevelReport
from taxonomist.training.heads.head_options import Epoch
from taxonomist.training.heads.report.confusions import most_confused

_MAX_NAMES = 40  # classes; more are not legible


def plot_curves(curves: Sequence[Epoch], best: int, path: Path) -> None:
    """Plot accuracy and loss of training and validation over the epochs, with a mark at the epoch that was kept."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    epochs = np.arange(1, len(curves) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for part, colour in (("train", "tab:blue"), ("validation", "tab:orange")):
            values = [getattr(epoch, f"{part}_{name}") for epoch in curves]
            if np.isfinite(values).any():
                axes.plot(epochs, values, color=colour, label=part)
        axes.axvline(best + 1, color="grey", linestyle=":", label="kept")
        axes.set(xlabel="epoch", title="accuracy at level 1" if name == "accuracy" else name)
        axes.legend()
    canvas.print_png(path)  # type: ignore[no-untyped-call]  # `print_figure` draws twice for the layout


def plot_confusion(report: LevelReport, title: str, path: Path) -> None:
    """Plot the confusion matrix of one level: rows are true classes, colours their shares, numbers count images.

    Of more classes than are legible, the ones with the most mistakes are shown, and the others as one.
    """
    classes, matrix = most_confused(report, _MAX_NAMES)
    count = len(classes)
    if count < len(report.classes):
        title = f"{title}: the {_MAX_NAMES} of {len(report.classes)} classes with the most mistakes"
    side = min(18.0, 3 + 0.4 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(colours, ax=axes, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(drawable(title), parse_math=False)
    names = list(map(short, classes))
    axes.set_xticks(range(count), names, fontsize=8, parse_math=False, rotation=90)
    axes.set_yticks(range(count), names, fontsize=8, parse_math=False)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        number = axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7)
        number.set(color=colour, in_layout=False)  # within the axes: the layout need not look at it
    canvas.print_png(path)  # type: ignore[no-untyped-call]  # `print_figure` draws twice for the layout


def short(name: str, length: int = 32) -> str:
    """Return a name that fits beside a plot: the end of a long one, which says more than its beginning."""
    return drawable(name if len(name) <= length else "…" + name[-length + 1 :])


def drawable(text: str) -> str:
    """Return the text with "?" for characters that the font lacks: matplotlib would warn about each."""
    return "".join(letter if letter.isprintable() and ord(letter) in _letters() else "?" for letter in text)


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
