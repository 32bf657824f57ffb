"""The third stage (*data_prep* in the thesis): the chosen images are read, decoded, resized and stored.

A training maps the store into memory. Several images are read at the same time. The stage can be killed at any moment;
the next run reads only the images that are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from taxonomist.backend.data_stages.files import Part, read_query, read_split, write_report
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import PREPARING, ImageSource
from taxonomist.inference.preparation import prepare_images
from taxonomist.inference.reasons import log_reasons
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.label_query import LabelQuery
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConfigError, ImageUnavailableError

log = logging.getLogger(__name__)

FAILURES, REPORT = "failures.csv", "fetch.json"
CONCURRENCY = 16


@dataclass(frozen=True)
class FetchResult:
    """The result of a run.

    `size` is the side of the images in pixels. `images` counts all images of the store, `new` those that this run
    added, `present` those that were wanted and already stored, `private` those that were left out for privacy.
    `failures` has the reason for each image that could not be read or decoded.
    """

    folder: Path
    size: int
    images: int
    new: int
    present: int
    private: int
    failures: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for JSON. `pictures` is the former name of `images`."""
        return asdict(self) | {"pictures": self.images}


def run_fetch(
    services: Services,
    query: Path,
    folder: Path,
    size: int,
    *,
    split: Path | None = None,
    parts: Collection[Part] = (),
    concurrency: int = CONCURRENCY,
    progress: CountProgress = ignore_counts,
) -> FetchResult:
    """Fill the `PreparedImageStore` in `folder` with the images that the query chose, and return the result.

    With `split`, only the images of its `parts` are fetched, or of all parts when none is named. `failures.csv` has the
    reason for each image that failed, `fetch.json` the counts. Raises `ConfigError` when there is nothing to fetch,
    `ImageUnavailableError` when every image failed, and `StorageError`.
    """
    wanted = _wanted(query, split, parts)
    private = set() if services.settings.allow_private else _private(services)
    allowed = [source for source in wanted if source.id not in private]
    log.info("%d images are wanted, %d are left out for privacy", len(allowed), len(wanted) - len(allowed))
    store = PreparedImageStore(folder, size)
    prepared = prepare_images(
        allowed,
        store,
        lambda source: services.images(source.project or None).read(source.uri),
        options=replace(PREPARING, threads=concurrency),
        progress=progress,
        failures_file=folder / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    log_reasons(log, "images that are used although their file has a fault", prepared.notes)
    result = FetchResult(
        folder,
        size,
        len(store),
        prepared.new,
        prepared.present,
        len(wanted) - len(allowed),
        dict(prepared.failures),
    )
    _report(result, store, private)
    return result


def _wanted(query: Path, split: Path | None, parts: Collection[Part]) -> list[ImageSource]:
    chosen = {image.id: ImageSource(image.id, image.uri, image.project) for image in read_query(query)}
    if split is not None:
        placed = [image.id for image in read_split(split) if not parts or image.part in parts]
        unknown = [id for id in placed if id not in chosen]
        if unknown:
            raise ConfigError(
                f"{unknown[0]} is in the split in {split} and not in the query in {query}.",
                hint=f"Run `taxonomist data split --query {query} --out {split}` again.",
            )
        chosen = {id: chosen[id] for id in placed}
    elif parts:
        raise ConfigError("--part needs a split.", hint="Name its folder by --split.")
    if not chosen:
        raise ConfigError(f"There is nothing to fetch in {split or query}.")
    return list(chosen.values())


def _private(services: Services) -> set[str]:
    """Return the ids of private images in the catalogue. The query's files may be older than a face detection."""
    private = services.catalog.find(LabelQuery(blurred=None, private=True))
    return {found.document.id for found in private}


def _report(result: FetchResult, store: PreparedImageStore, private: set[str]) -> None:
    """Write `fetch.json` and log the result. Raises `ImageUnavailableError` when every image failed."""
    log.info("%d images are new, %d were present, %d failed", result.new, result.present, len(result.failures))
    counts = {name: value for name, value in result.to_json().items() if name not in {"folder", "failures"}}
    write_report(result.folder, REPORT, counts | {"failed": len(result.failures)})
    if stored := private & set(store.snapshot()[0]):
        log.warning(
            "%d images in %s have become private since they were fetched; fetch into a new folder",
            len(stored),
            result.folder,
        )
    if result.failures:
        log_reasons(log, f"images that could not be fetched (see {result.folder / FAILURES})", result.failures)
        if not result.new and not result.present:
            raise ImageUnavailableError(
                f"None of the {len(result.failures)} images could be fetched.",
                hint=next(iter(result.failures.values())),
            )
