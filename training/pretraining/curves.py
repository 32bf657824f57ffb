"""The curves of a pre-training, as a file and as a plot: contrastive loss and neighbour score over the epochs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from taxonomist.storage.files import write_atomically

CURVES, PLOT, TENSORBOARD = "curves.csv", "loss.png", "tensorboard"


@dataclass(frozen=True)
class CurvePoint:
    """One row of the curves: means over a segment.

    `step` and `epoch` are those at its end, `seen` counts images since the start of the run, `size` is the side of the
    last views in pixels, `seconds` the time of the segment alone. `score` is None where none was computed.
    """

    step: int
    epoch: float
    seen: int
    loss: float
    projection_std: float
    lr: float
    size: int
    seconds: float
    score: float | None = None


def write_curves(points: Sequence[CurvePoint], folder: Path) -> None:
    """Write `curves.csv` and `loss.png` of at least one point."""
    out = io.StringIO()
    rows = csv.DictWriter(out, list(asdict(points[0])))
    rows.writeheader()
    rows.writerows([asdict(point) for point in points])
    write_atomically(folder / CURVES, out.getvalue().encode())
    _plot(points, folder / PLOT)


def _plot(points: Sequence[CurvePoint], path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([point.epoch for point in points], [point.loss for point in points], color="tab:blue")
    axes.set(xlabel="epoch", ylabel="contrastive loss")
    scored = [(point.epoch, point.score) for point in points if point.score is not None]
    if scored:
        right = axes.twinx()
        right.plot(*zip(*scored, strict=True), color="tab:orange", marker=".")
        right.set_ylabel("macro-F1 of nearest neighbours", color="tab:orange")
    canvas.print_figure(path, format="png")
