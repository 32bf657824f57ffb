"""The accepted labels of a project, for scripts and other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.services import Services
from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class Label:
    """An accepted path of an image; an image with several accepted paths has several labels.

    `product` is the product or report that the image belongs to, `part` is "test" or "train" once a training has
    assigned it. Without an accepted path `path` is () and `reason` says why.
    """

    image_id: str
    uri: str
    control: str
    path: TaxonomyPath
    product: str | None
    part: str | None
    reason: str | None


def accepted_labels(services: Services, project: str, *, unlabelled: bool = False) -> Iterator[Label]:
    """Yield the accepted labels, in order of image ids; with `unlabelled` also the images without one."""
    for document in services.catalog.documents(project, labelled=None if unlabelled else True):
        entry = document.projects[project]
        paths = [(control, path) for control in entry.accepted for path in entry.paths(control)]
        for control, path in paths or [("", ())]:
            yield Label(document.id, entry.uri, control, path, entry.group, entry.part, entry.reason)


def write_labels(file: Path, labels: Sequence[Label]) -> None:
    """Write labels as a manifest, which can be imported: file, level1, …, product, and columns that only tell more.

    A file that is there is replaced in one step. A text that a spreadsheet would run as a formula begins with "'", and
    is read without it. Raises `StorageError`.
    """
    levels = max((len(label.path) for label in labels), default=1)
    names = [f"level{level}" for level in range(1, levels + 1)]
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["file", *names, "product", "control", "part", "reason"])
    for label in labels:
        path = (*label.path, *[""] * (levels - len(label.path)))
        row = (label.uri, *path, label.product or "", label.control, label.part or "", label.reason or "")
        rows.writerow(for_spreadsheets(row))
    with storage_errors(file):
        write_atomically(file, text.getvalue().encode("utf-8", "surrogatepass"))
