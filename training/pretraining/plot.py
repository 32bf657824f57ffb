"""The plot of a pre-training: contrastive loss and neighbour score over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_pretraining(
    epochs: Sequence[float], losses: Sequence[float], scores: Sequence[float | None], path: Path
) -> None:
    """Contrastive loss over the epochs (thesis, figure 6.1), and the neighbour score where there is one."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(epochs, losses, color="tab:blue")
    axes.set(xlabel="epoch", ylabel="contrastive loss")
    scored = [(epoch, score) for epoch, score in zip(epochs, scores, strict=True) if score is not None]
    if scored:
        right = axes.twinx()
        right.plot(*zip(*scored, strict=True), color="tab:orange", marker=".")
        right.set_ylabel("macro-F1 of nearest neighbours", color="tab:orange")
    canvas.print_figure(path, format="png")
