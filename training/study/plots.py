"""The study's plots: label distribution, learning curves of all seeds, confusion matrices."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from taxonomist.training.heads.report.plots import drawable, short
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.trial import Trial


def plot_labels(labelled: LabelledImages, path: Path) -> None:
    """Plot the number of labelled images of each level-1 class (thesis, figure 6.2)."""
    counts = Counter(label[0] for label in labelled.paths).most_common()
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(counts)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    bars = axes.barh(range(len(counts)), [count for _, count in counts], color="tab:blue")
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(counts)), [short(name) for name, _ in counts], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel="labelled images", title="Label distribution at level 1")
    canvas.print_figure(path, format="png")


def plot_learning(trials: Sequence[Trial], title: str, path: Path) -> None:
    """Plot accuracy and loss of the head at level 1 over the epochs (thesis, figures 6.3, 6.5, 6.7).

    Each seed has a line, with a dot at the epoch that was kept.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for part, colour in (("train", "tab:blue"), ("validation", "tab:orange")):
            for number, trial in enumerate(trials):
                values = [getattr(epoch, f"{part}_{name}") for epoch in trial.curves]
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, color=colour, alpha=0.6, label=None if number else part)
                axes.plot(trial.best + 1, values[trial.best], "o", color=colour, markersize=4)
        axes.set(xlabel="epoch", title="accuracy at level 1" if name == "accuracy" else name)
        axes.legend()
    figure.suptitle(drawable(title), parse_math=False)
    canvas.print_figure(path, format="png")
