"""Predictions for images that a caller passes in, such as the files of a folder; nothing is stored."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from taxonomist.backend.prediction.image_inputs import ImageInput, embed_inputs
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.no_suggestion import explain_missing
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.inference.file_formats import readable_formats
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.suggestion import Suggestion

_PORTION = 1024  # images whose embeddings are kept at a time


@dataclass(frozen=True)
class Prediction:
    """The suggestion for an image and a control: its path and its calibrated probability, 0 to 1.

    `path` is () where the model cannot be trusted to suggest one. `shortlist` may then have a few paths that contain
    the right one with the promised share; `score` is the sum of their probabilities, and `path` the parent that they
    share. `error` says why an image could not be read. `reason` says in words why there is neither path nor shortlist,
    "" where there is one.
    """

    image: str
    control: str
    path: TaxonomyPath
    score: float
    error: str | None = None
    shortlist: tuple[TaxonomyPath, ...] = ()
    reason: str = ""

    def describe(self) -> str:
        """Return the suggestion or the shortlist with its probability, or why there is none, in words."""
        if self.error or self.reason:
            return f"none. {self.error or self.reason}"
        if self.shortlist:
            return f"one of {'; '.join(map(format_path, self.shortlist))} ({self.score:.2f})"
        return f"{format_path(self.path)} ({self.score:.2f})"


def predict_images(
    services: Services,
    project: str,
    images: Sequence[ImageInput],
    predictor: Predictor,
    progress: CountProgress = ignore_counts,
) -> Iterator[Prediction]:
    """Yield a prediction for each image and control, in order. An image that cannot be read has an `error`.

    Before the first training, look-alikes vote. Raises `NotFoundError` when the home has no backbone yet.
    """
    backbone = predictor.backbone(project)
    if backbone is None:
        raise NotFoundError("There is no backbone yet.", hint=f"taxonomist embed --project {project}")
    trees = services.label_config(project).trees
    for start in range(0, len(images), _PORTION):
        portion = images[start : start + _PORTION]
        embedded = embed_inputs(services, project, portion, backbone, partial(_further, progress, start, len(images)))
        rows = predictor.suggest(project, embedded.vectors)
        reasons = explain_missing(services, predictor, project, trees, embedded.vectors, rows)
        found = dict(zip(embedded.positions, zip(rows, reasons, strict=True), strict=True))
        for position, image in enumerate(portion):
            name = _name(image, start + position)
            if error := embedded.errors.get(position):
                yield from (Prediction(name, tree.control, (), 0.0, str(error)) for tree in trees)
                continue
            suggestions, missing = found[position]
            for tree in trees:
                suggestion = suggestions.get(tree.control) or Suggestion((), 0.0, 0)
                yield Prediction(
                    name,
                    tree.control,
                    suggestion.path,
                    suggestion.score,
                    shortlist=suggestion.shortlist,
                    reason=missing[tree.control].detail if tree.control in missing else "",
                )


def look_alikes_of_image(
    services: Services, project: str, image: ImageInput, k: int | None = None, predictor: Predictor | None = None
) -> list[LookAlike]:
    """Return the labelled images of a project that look most like an image, best first.

    Raises `NotFoundError` when nothing has been embedded yet, and the error of an image that cannot be read.
    """
    predictor = predictor or Predictor(services)
    backbone = predictor.backbone(project)
    if backbone is None:
        raise NotFoundError("No image has been embedded yet.", hint=f"taxonomist embed --project {project}")
    embedded = embed_inputs(services, project, [image], backbone)
    if embedded.errors:
        raise embedded.errors[0]
    return predictor.look_alikes.shown(project, embedded.vectors[0], backbone, k=k)


def _further(progress: CountProgress, before: int, total: int, done: int, _: int | None) -> None:
    progress(before + done, total)


def _name(image: ImageInput, position: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {position}"


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the files among `paths`, and the image files in and below the folders among them, in order of their names.

    An image file is known by the end of its name; hidden files and folders are left out, and links to folders are not
    followed. Raises `ConfigError` for a path that does not exist, and for a folder without an image file.
    """
    formats = readable_formats()
    ends = {end for end, name in Image.registered_extensions().items() if name in formats}
    found: dict[Path, None] = {}  # in order, and each once
    for path in paths:
        if path.is_dir():
            files = [file for file in _files_below(path) if file.suffix.lower() in ends]
            if not files:
                raise ConfigError(f"The folder {path} has no image file.", hint=f"Known are {', '.join(sorted(ends))}.")
            found |= dict.fromkeys(files)
        elif path.exists():
            found[path] = None
        else:
            raise ConfigError(f"There is no file or folder {path}.")
    return list(found)


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def write_predictions(file: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as CSV; a file that is there is replaced in one step. Raises `StorageError`.

    The paths of a shortlist are separated by "; ". A text that a spreadsheet would run as a formula begins with "'".
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["image", "control", "path", "probability", "shortlist", "error", "reason"])
    for found in predictions:
        shortlist = "; ".join(map(format_path, found.shortlist))
        path, score = format_path(found.path), f"{found.score:.4f}"
        row = (found.image, found.control, path, score, shortlist, found.error or "", found.reason)
        rows.writerow(for_spreadsheets(row))
    with storage_errors(file):
        write_atomically(file, text.getvalue().encode("utf-8", "surrogatepass"))
