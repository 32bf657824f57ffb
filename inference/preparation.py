"""Fill a store of prepared images from their addresses. No torch.

A run can be killed at any moment. The next run skips the images in the store and reads all others.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from taxonomist.inference.image_decoding import MAX_PIXELS
from taxonomist.inference.pipeline import (
    PREPARING,
    DecodedImage,
    ImageFailure,
    ImageResult,
    ImageSource,
    PipelineOptions,
    process_images,
)
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.images import without_query
from taxonomist.storage.prepared_images import PreparedImageStore

__all__ = ["NewImages", "PreparationResult", "prepare_images"]

NewImages = Sequence[ImageResult[ImageSource, DecodedImage]]

_REPORT_EVERY = 32  # images


@dataclass(frozen=True)
class PreparationResult:
    """How many images a run added, how many were in the store before, and by id why the others failed.

    `notes` says, by id, what is wrong with the file of an image that was added all the same.
    """

    new: int
    present: int
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def prepare_images(
    sources: Sequence[ImageSource],
    store: PreparedImageStore,
    read: Callable[[ImageSource], bytes],
    *,
    options: PipelineOptions = PREPARING,
    progress: CountProgress = ignore_counts,
    note: Callable[[NewImages], None] = lambda images: None,
    failures_file: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PreparationResult:
    """Decode the images that the store lacks, as serving decodes them, and append them to it. Return the counts.

    Of several sources with the same id, only the first is read. `read` is called in several threads. An image that
    cannot be read or decoded is listed in `failures_file` (columns id, uri, reason), which is replaced at the end; the
    next run tries it again. `note` gets each batch of new images before it is appended. Raises `StorageError` when the
    disk is full or fails; the batches that were appended stay.
    """
    unique: dict[str, ImageSource] = {}
    for source in sources:
        unique.setdefault(source.id, source)
    known = set(store.snapshot()[0])
    missing = [source for source in unique.values() if source.id not in known]
    present, new = len(unique) - len(missing), 0
    failures: dict[str, str] = {}
    notes: dict[str, str] = {}
    waiting: list[ImageResult[ImageSource, DecodedImage]] = []

    def load(source: ImageSource) -> DecodedImage:
        return DecodedImage.from_bytes(read(source), store.size, max_pixels=max_pixels)

    def append() -> int:
        note(waiting)
        count = store.append([result.source.id for result in waiting], np.stack([r.image.pixels for r in waiting]))
        waiting.clear()
        return count

    progress(present, len(unique))
    with closing(process_images(missing, load, options=options)) as outcomes:
        for count, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, ImageResult):
                waiting.append(outcome)
                if outcome.image.note:
                    notes[outcome.source.id] = outcome.image.note
            elif isinstance(outcome, ImageFailure):
                failures[outcome.source.id] = str(outcome.error)
            if len(waiting) == options.batch:
                new += append()
            if count % _REPORT_EVERY == 0 or count == len(missing):
                progress(present + count, len(unique))
    if waiting:
        new += append()
    if failures_file is not None:
        _write_failures(failures_file, [source for source in missing if source.id in failures], failures)
    return PreparationResult(new, present, failures, notes)


def _write_failures(file: Path, sources: Sequence[ImageSource], reasons: Mapping[str, str]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["id", "uri", "reason"])
    rows.writerows(for_spreadsheets((source.id, without_query(source.uri), reasons[source.id])) for source in sources)
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text.getvalue().encode())
