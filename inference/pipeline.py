"""The image pipeline: read, decode, prepare and, with an embedder, embed images. No torch.

Every part of the program that needs more than one image takes it from `process_images`. Threads load images ahead of
the caller, at most `PipelineOptions.window` of them, so that memory stays bounded however many images there are.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import Embedder, give_way
from taxonomist.inference.image_decoding import MAX_PIXELS, NOTE, PreparedImage, decoded, prepare_image
from taxonomist.storage.images.loading import has_passed, loading
from taxonomist.taxonomy.errors import ImageUnavailableError, TaxonomistError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineOptions:
    """How much of the work is done at the same time."""

    threads: int = 8  # they wait for the network or decode, which Pillow does without the GIL
    batch: int = 32  # images that are embedded together; callers also store this many together

    @property
    def window(self) -> int:
        """How many images are loaded, or being loaded, ahead of the caller."""
        return max(self.batch, 2 * self.threads)


EMBEDDING = PipelineOptions()
PREPARING = PipelineOptions(threads=max(8, os.cpu_count() or 1), batch=256)  # no model runs beside it


class HasPixels(Protocol):
    """A loaded image: `pixels` is uint8 (size, size, 3), or (k, size, size, 3) for an image and views of it."""

    @property
    def pixels(self) -> npt.NDArray[np.uint8]: ...


Source = TypeVar("Source")
Loaded = TypeVar("Loaded", bound=HasPixels)
Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageSource:
    """Where an image is read: its id, its address and its project."""

    id: str
    uri: str
    project: str

    def __str__(self) -> str:
        return f"image {self.id} of project {self.project}"  # without the address, which may hold a signature


@dataclass(frozen=True)
class DecodedImage:
    """A prepared image, and the sha256, the width and the height (pixels) of its file.

    `note` says what is wrong with a file that is used all the same, such as a JPEG that lacks its last bytes.
    """

    pixels: PreparedImage
    file_hash: str
    width: int
    height: int
    note: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, size: int, *, max_pixels: int = MAX_PIXELS) -> "DecodedImage":
        """Return the image in the file `data`, prepared for `size` pixels. Raises `ImageDecodingError`."""
        return cls.for_sizes(data, [size], max_pixels=max_pixels)[size]

    @classmethod
    def for_sizes(cls, data: bytes, sizes: Iterable[int], *, max_pixels: int = MAX_PIXELS) -> dict[int, "DecodedImage"]:
        """Return the image in the file `data`, decoded once and prepared for each of the sizes in pixels.

        Raises `ImageDecodingError`, or `ImageUnavailableError` when other images take the memory for too long.
        """
        file_hash = hashlib.sha256(data).hexdigest()
        with decoded(data, max_pixels=max_pixels) as (image, width, height):
            note = image.info.get(NOTE)
            return {size: cls(prepare_image(image, size), file_hash, width, height, note) for size in sizes}


@dataclass(frozen=True)
class ImageResult(Generic[Source, Loaded]):
    """A loaded image, and the embeddings (k, d) of its pixels; (0, 0) without an embedder."""

    source: Source
    image: Loaded
    vectors: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class ImageFailure(Generic[Source]):
    """An image that could not be loaded, and the reason. `is_late`: its deadline has passed meanwhile."""

    source: Source
    error: TaxonomistError
    is_late: bool = False


@dataclass(frozen=True)
class LateImage(Generic[Source]):
    """An image that was not begun, because the deadline had passed."""

    source: Source


Outcome = ImageResult[Source, Loaded] | ImageFailure[Source] | LateImage[Source]


def process_images(
    sources: Iterable[Source],
    load: Callable[[Source], Loaded],
    embedder: Embedder | None = None,
    *,
    options: PipelineOptions = EMBEDDING,
    deadline: float | None = None,
) -> Generator[Outcome[Source, Loaded], None, None]:
    """Yield what came of each source, in order: a result, a failure, or that it is late.

    `load` reads and decodes an image; it is called in several threads, for a single image in the caller's own. An
    error costs only its image: a `TaxonomistError` is passed on as the failure, any other exception is logged as well.
    No image is begun after `deadline`, a value of `time.monotonic()`, and none is read for longer. Close the generator
    (`contextlib.closing`) to end the threads early.
    """
    with closing(_load_ahead(sources, load, options, deadline)) as outcomes:
        if embedder is None:
            yield from outcomes
            return
        for batch in in_batches(outcomes, options.batch):
            yield from _embed(batch, embedder)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last list may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _load_ahead(
    sources: Iterable[Source], load: Callable[[Source], Loaded], options: PipelineOptions, deadline: float | None
) -> Generator[Outcome[Source, Loaded], None, None]:
    def attempt(source: Source) -> Outcome[Source, Loaded]:
        if has_passed(deadline):
            return LateImage(source)
        try:
            with loading(deadline):
                return ImageResult(source, load(source))
        except TaxonomistError as error:
            return ImageFailure(source, error, is_late=has_passed(deadline))
        except Exception as error:  # a hostile file may provoke any exception
            log.exception("unexpected error while loading %s", source)
            return ImageFailure(source, ImageUnavailableError(f"Unexpected error: {type(error).__name__}."))

    remaining = iter(sources)
    first_two = list(islice(remaining, 2))
    if len(first_two) < 2:  # a single image would only wait for its thread to start
        yield from map(attempt, first_two)
        return
    begun: deque[Future[Outcome[Source, Loaded]]] = deque()
    pool = ThreadPoolExecutor(options.threads, thread_name_prefix="load-images", initializer=give_way)
    try:
        for source in chain(first_two, remaining):
            begun.append(pool.submit(attempt, source))
            if len(begun) == options.window:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _embed(batch: list[Outcome[Source, Loaded]], embedder: Embedder) -> Iterator[Outcome[Source, Loaded]]:
    pixels = [_as_stack(outcome.image.pixels) for outcome in batch if isinstance(outcome, ImageResult)]
    vectors = iter(_split(embedder.embed(np.concatenate(pixels)), pixels) if pixels else [])
    for outcome in batch:
        yield replace(outcome, vectors=next(vectors)) if isinstance(outcome, ImageResult) else outcome


def _as_stack(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return pixels if pixels.ndim == 4 else pixels[None]


def _split(vectors: npt.NDArray[np.float32], pixels: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
    return np.split(vectors, np.cumsum([len(stack) for stack in pixels])[:-1])
