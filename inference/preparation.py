"""From the addresses of pictures to a store of decoded ones. No torch.

Killed at any moment, the next run goes on: what is in the store is not read again, everything else is.
"""

import csv
import hashlib
import io
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from taxonomist.inference.image_decoding import MAX_PIXELS, PreparedImage, decode_image, prepare_image
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.images import without_query
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import TaxonomistError

__all__ = ["DecodedImage", "ImageSource", "PreparationResult", "prepare_images"]

log = logging.getLogger(__name__)

WORKERS = max(8, os.cpu_count() or 1)  # threads wait for the network, or decode, which Pillow does without the GIL
BATCH = 256
_REPORT_EVERY = 32


@dataclass(frozen=True)
class ImageSource:
    """A picture to prepare: its id, and where it is read."""

    id: str
    uri: str
    project: str


@dataclass(frozen=True)
class DecodedImage:
    """A picture as the store keeps it (size, size, 3), and what its file was: sha256, width and height in pixels."""

    wanted: ImageSource
    pixels: PreparedImage
    file_hash: str
    width: int
    height: int


@dataclass(frozen=True)
class PreparationResult:
    """What a run came to: pictures that it added, those that were there before, and why others could not be had."""

    new: int
    present: int
    failures: Mapping[str, str] = field(default_factory=dict)


def prepare_images(
    wanted: Sequence[ImageSource],
    store: PreparedImageStore,
    read: Callable[[ImageSource], bytes],
    *,
    workers: int = WORKERS,
    batch: int = BATCH,
    progress: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[Sequence[DecodedImage]], None] = lambda pictures: None,
    failures_file: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PreparationResult:
    """Decode what the store does not have yet, as serving decodes it, and append it `batch` pictures at a time.

    Of several that have one id the first is read. `read` is called in `workers` threads; what it raises, or what
    decoding raises, costs that picture only: it is listed in `failures_file` (id, uri, reason), which is replaced at
    the end, and tried again in the next run. `progress` is told how many are done and how many there are; `note` sees
    each batch before it is kept. Raises `StorageError` when the disk says no; what was appended stays.
    """
    unique: dict[str, ImageSource] = {}
    for one in wanted:
        unique.setdefault(one.id, one)
    have = set(store.snapshot()[0])
    missing = [one for one in unique.values() if one.id not in have]
    present, new = len(unique) - len(missing), 0
    failures: dict[str, str] = {}
    waiting: list[DecodedImage] = []

    def keep() -> int:
        note(waiting)
        count = store.append([one.wanted.id for one in waiting], np.stack([one.pixels for one in waiting]))
        waiting.clear()
        return count

    def load(one: ImageSource) -> DecodedImage | str:
        try:
            data = read(one)
            image = decode_image(data, max_pixels=max_pixels)
            pixels = prepare_image(image, store.size)
            return DecodedImage(one, pixels, hashlib.sha256(data).hexdigest(), image.width, image.height)
        except TaxonomistError as error:
            return str(error)
        except Exception as error:  # whatever a hostile file can provoke must cost that picture only
            log.exception("picture %s of project %s", one.id, one.project)
            return f"Unexpected error: {type(error).__name__}."

    progress(present, len(unique))
    with closing(_ahead(load, missing, workers, window=max(batch, 2 * workers))) as results:
        for count, (one, result) in enumerate(results, start=1):
            if isinstance(result, str):
                failures[one.id] = result
            else:
                waiting.append(result)
            if len(waiting) == batch:
                new += keep()
            if count % _REPORT_EVERY == 0 or count == len(missing):
                progress(present + count, len(unique))
    if waiting:
        new += keep()
    if failures_file is not None:
        _write_failures(failures_file, [(one, failures[one.id]) for one in missing if one.id in failures])
    return PreparationResult(new, present, failures)


def _ahead(
    load: Callable[[ImageSource], DecodedImage | str], items: Iterable[ImageSource], workers: int, window: int
) -> Generator[tuple[ImageSource, DecodedImage | str], None, None]:
    """Each item and what `load` made of it, in order; threads are at most `window` items ahead of the caller."""
    begun: deque[tuple[ImageSource, Future[DecodedImage | str]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        for item in items:
            begun.append((item, pool.submit(load, item)))
            if len(begun) == window:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_failures(file: Path, failures: Sequence[tuple[ImageSource, str]]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["id", "uri", "reason"])
    rows.writerows((one.id, without_query(one.uri), reason) for one, reason in failures)
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text.getvalue().encode())
