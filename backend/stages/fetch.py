"""The third stage (*data_prep* in the thesis): the chosen pictures, read from where they are kept, decoded and resized
once, in a store that a training maps into memory.

Many are read at the same time. Killed at any moment, the next run goes on: only what is missing is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from taxonomist.backend.services import Services
from taxonomist.backend.stages.files import Part, read_query, read_split, write_report
from taxonomist.inference.preparation import ImageSource, PreparationResult, prepare_images
from taxonomist.storage.catalog.label_query import LabelQuery
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConfigError, ImageUnavailableError

log = logging.getLogger(__name__)

FAILURES, REPORT = "failures.csv", "fetch.json"
CONCURRENCY = 16


@dataclass(frozen=True)
class Fetched:
    """What a run came to. `size` is in pixels; `pictures` counts the store, `new` what this run added, `private` what
    was left out for privacy, `failures` has the reason for each picture that cannot be had."""

    folder: Path
    size: int
    pictures: int
    new: int
    present: int
    private: int
    failures: dict[str, str]


def run_fetch(
    services: Services,
    query: Path,
    folder: Path,
    size: int,
    *,
    split: Path | None = None,
    parts: Collection[Part] = (),
    concurrency: int = CONCURRENCY,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Fetched:
    """Fill the `PreparedImageStore` in `folder` with the images that the query chose.

    Of a split, only the images of `parts` are fetched, or all of them.

    `failures.csv` says why a picture cannot be had, `fetch.json` what the run came to. Raises `ConfigError` when there
    is nothing to fetch, `ImageUnavailableError` when not one picture can be had, and `StorageError`.
    """
    wanted = _wanted(query, split, parts)
    private = set() if services.settings.allow_private else _private(services)
    allowed = [one for one in wanted if one.id not in private]
    log.info("%d pictures are wanted, %d are left out for privacy", len(allowed), len(wanted) - len(allowed))
    store = PreparedImageStore(folder, size)
    prepared = prepare_images(
        allowed,
        store,
        lambda one: services.images(one.project or None).read(one.uri),
        workers=concurrency,
        progress=advance,
        failures_file=folder / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    fetched = Fetched(
        folder,
        size,
        len(store),
        prepared.new,
        prepared.present,
        len(wanted) - len(allowed),
        dict(prepared.failures),
    )
    _tell(fetched, prepared, store, private)
    return fetched


def _wanted(query: Path, split: Path | None, parts: Collection[Part]) -> list[ImageSource]:
    chosen = {one.id: ImageSource(one.id, one.uri, one.project) for one in read_query(query)}
    if split is not None:
        placed = [one.id for one in read_split(split) if not parts or one.part in parts]
        strange = [id for id in placed if id not in chosen]
        if strange:
            raise ConfigError(
                f"{strange[0]} is in the split in {split}, and not in the query in {query}.",
                hint="Split the query again.",
            )
        chosen = {id: chosen[id] for id in placed}
    elif parts:
        raise ConfigError("Parts are those of a split.", hint="Name its folder by --split.")
    if not chosen:
        raise ConfigError(f"There is nothing to fetch in {split or query}.")
    return list(chosen.values())


def _private(services: Services) -> set[str]:
    """Asked of the catalogue, and not of the query's files: a face may have been found since."""
    found = services.catalog.find(LabelQuery(blurred=None, private=True))
    return {each.document.id for each in found}


def _tell(fetched: Fetched, prepared: PreparationResult, store: PreparedImageStore, private: set[str]) -> None:
    log.info("%d pictures are new, %d were there, %d failed", prepared.new, prepared.present, len(prepared.failures))
    write_report(
        fetched.folder,
        REPORT,
        {name: value for name, value in asdict(fetched).items() if name not in {"folder", "failures"}}
        | {"failed": len(fetched.failures)},
    )
    if kept := private & set(store.snapshot()[0]):
        log.warning("%d pictures in %s have become private since; fetch into a new folder", len(kept), fetched.folder)
    if fetched.failures:
        log.warning("%d pictures cannot be had; %s says why", len(fetched.failures), FAILURES)
        if not prepared.new and not prepared.present:
            raise ImageUnavailableError(
                f"None of the {len(fetched.failures)} pictures can be had.", hint=next(iter(fetched.failures.values()))
            )
