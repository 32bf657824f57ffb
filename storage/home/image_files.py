"""What a home has of images besides the journal and the catalogue: embeddings, prepared images and cached files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from taxonomist.storage.arrays.forgetting import StoredRows, find_rows, forget_rows
from taxonomist.storage.arrays.store_index import FORGOTTEN
from taxonomist.storage.csv_text import for_spreadsheets, from_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.images.cache import cached_files

__all__ = ["ImageFiles", "find_image_files", "forget_image_files"]

_RUN_FILES = ("images.json", "pictures.json")


@dataclass(frozen=True)
class ImageFiles:
    """How many embeddings (of all backbones), prepared images (of all sizes) and cached files, with their bytes."""

    embeddings: StoredRows
    prepared: StoredRows
    cached: StoredRows


def find_image_files(home: Path, ids: Collection[str]) -> ImageFiles:
    """Return what the home has of these images. Raises `StorageError`."""
    cached = StoredRows()
    for path in _cached(home, ids):
        with suppress(FileNotFoundError):
            cached += StoredRows(1, path.stat().st_size)
    return ImageFiles(
        embeddings=sum((find_rows(folder, ids) for folder in _embeddings(home)), StoredRows()),
        prepared=sum((find_rows(folder, ids) for folder in _prepared(home)), StoredRows()),
        cached=cached,
    )


def forget_image_files(home: Path, ids: Collection[str]) -> None:
    """Forget these images: delete their cached files, overwrite their embeddings and their prepared images.

    A pre-training that is not finished keeps their places: it sees zeros there. Can be repeated. Raises `StorageError`.
    """
    wanted = frozenset(ids)
    for folder in (*_embeddings(home), *_prepared(home)):
        forget_rows(folder, wanted)
    with storage_errors(home):
        for path in _cached(home, wanted):
            path.unlink(missing_ok=True)
        for failures in home.glob("pictures/*/failures.csv"):
            _forget_failures(failures, wanted)
        for name in _RUN_FILES:
            _forget_in_run(home / "pretraining" / name, wanted)


def _embeddings(home: Path) -> Iterator[Path]:
    """Yield the folders with embeddings, copies of those in Azure too."""
    for pattern in ("embeddings/*", "azure/*/embeddings/*/*"):
        yield from sorted(folder for folder in home.glob(pattern) if folder.is_dir())


def _prepared(home: Path) -> Iterator[Path]:
    """Yield the folders with prepared images: those of the home, and that of the last pre-training."""
    yield from sorted(folder for folder in home.glob("pictures/*") if folder.is_dir())
    with suppress(OSError, ValueError, AttributeError, TypeError):
        run = json.loads((home / "pretraining" / "run.json").read_bytes())
        folder = Path(run.get("prepared") or run.get("pictures"))
        if folder.is_dir():
            yield folder


def _cached(home: Path, ids: Collection[str]) -> Iterator[Path]:
    for pattern in ("images/*", "azure/*/images"):  # a folder for each Label Studio, and for each storage account
        for folder in home.glob(pattern):
            yield from cached_files(folder, ids)


def _forget_failures(file: Path, ids: Collection[str]) -> None:
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8", errors="replace"))))
    kept = [row for row in rows if row and row[0] not in ids]
    if len(kept) < len(rows):
        text = io.StringIO(newline="")
        csv.writer(text).writerows(for_spreadsheets(map(from_spreadsheets, row)) for row in kept)
        write_atomically(file, text.getvalue().encode())


def _forget_in_run(file: Path, ids: Collection[str]) -> None:
    """Take the names of the images out of the data of a pre-training, in the same order: its checkpoints count it."""
    try:
        run = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):  # what cannot be read is reported by the pre-training
        return
    before = json.dumps(run)
    if isinstance(names := run.get("ids"), list):
        run["ids"] = [FORGOTTEN if id in ids else id for id in names]
    if isinstance(probe := run.get("probe"), list):
        run["probe"] = [image for image in probe if image.get("id") not in ids]
    if json.dumps(run) != before:
        write_atomically(file, json.dumps(run, indent=1).encode())
