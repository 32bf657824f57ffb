"""What is taken for what at a level of the tree, however many classes it has: as a list, a file, and a small matrix."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.training.heads.evaluation import LevelReport


@dataclass(frozen=True)
class Confusion:
    """`images` of the class `true` were predicted as `predicted`: that `share` of the true class, 0 to 1."""

    true: str
    predicted: str
    images: int
    share: float


def confusions(report: LevelReport) -> list[Confusion]:
    """Return the cells of a confusion matrix beside its diagonal that are not zero, the most frequent first."""
    return [cell for cell in _cells(report) if cell.true != cell.predicted]


def write_confusions(report: LevelReport, path: Path) -> None:
    """Write the cells that are not zero as CSV: first the wrong ones, the most frequent first, then the right ones.

    A text that a spreadsheet would run as a formula begins with "'".
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["true", "predicted", "images", "share_of_true"])
    for cell in sorted(_cells(report), key=lambda cell: cell.true == cell.predicted):
        rows.writerow(for_spreadsheets([cell.true, cell.predicted, cell.images, f"{cell.share:.4f}"]))
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def most_confused(report: LevelReport, most: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return names and confusion matrix of the `most` classes with the most mistakes, and of all others as one class.

    A mistake counts for the true and for the predicted class. The classes keep their order; the others come last. With
    at most that many classes, all are returned.
    """
    matrix, names = report.matrix, [row.name for row in report.classes]
    if len(names) <= most:
        return names, matrix
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:most])
    group = np.full(len(names), most)
    group[chosen] = np.arange(most)
    small = np.zeros((most + 1, most + 1), np.int64)
    np.add.at(small, (group[:, None], group[None, :]), matrix)
    return [*(names[number] for number in chosen), f"{len(names) - most} other classes"], small


def _cells(report: LevelReport) -> Iterator[Confusion]:
    """Yield the cells that are not zero, the most frequent first."""
    true, predicted = np.nonzero(report.matrix)
    images = report.matrix[true, predicted]
    totals = report.matrix.sum(axis=1)
    for place in np.argsort(-images, kind="stable"):
        row, column = int(true[place]), int(predicted[place])
        count = int(images[place])
        yield Confusion(report.classes[row].name, report.classes[column].name, count, count / int(totals[row]))
