"""The curves of a pre-training, loss and score on held-out products: a file, a plot and events for TensorBoard."""

import csv
import io
import logging
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from taxonomist.storage.files import write_atomically

log = logging.getLogger(__name__)

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
        right.set_ylabel("score on held-out products", color="tab:orange")
    canvas.print_figure(path, format="png")


class TensorBoardEvents:
    """Writes scalars to a new file in the folder. Those that find no room are left out; `curves.csv` has them, too.

    tensorboardX's own writer has a thread, which a full disk ends; the training would then wait for it without end.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._size = 0

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the scalars of a step."""
        events = [Event(summary=scalar(name, value), step=step) for name, value in scalars.items()]
        if self._size == 0:
            events.insert(0, Event(file_version="brain.Event:2"))
        data = b"".join(map(_record, events))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(data)
            self._size += len(data)
        except OSError as error:
            log.warning("TensorBoard's events of step %d could not be written: %s", step, error.strerror)
            with suppress(OSError):  # what follows half an event could not be read
                os.truncate(self._file, self._size)


def _record(event: Event) -> bytes:
    """Return the event as a TFRecord: its length, itself, and the checksums of both."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return bytes(length + checksums[0] + data + checksums[1])
