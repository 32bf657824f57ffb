"""From the address of an image to its embedding: looked up when it is known, else read, decoded, embedded and kept."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.services import Services
from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.images import without_query
from taxonomist.taxonomy.errors import ImageUnavailableError, TaxonomistError

log = logging.getLogger(__name__)

BATCH = 32
READERS = 8


@dataclass(frozen=True)
class Picture:
    """A decoded image: the square that the backbone sees and what its document says of the file."""

    pixels: NDArray[np.uint8]
    file_hash: str
    width: int
    height: int


@dataclass
class Embedded:
    """Embeddings by image id, and the reason for each image that has none."""

    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    failures: dict[str, TaxonomistError] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)  # not tried, since the deadline came first


def read_picture(services: Services, project: str, uri: str, size: int) -> Picture:
    """Fetch and decode one image. Raises the `ImageError` or `ImageDecodingError` that says why it cannot be had."""
    data = services.images(project).read(uri)
    image = decode_image(data, max_pixels=services.settings.max_image_pixels)
    return Picture(prepare_image(image, size), hashlib.sha256(data).hexdigest(), image.width, image.height)


def embed(
    services: Services,
    project: str,
    images: Mapping[str, str],
    backbone: str,
    *,
    deadline: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embedded:
    """Embeddings of a project's images.

    `images` maps image ids to addresses; `deadline` is a `time.monotonic()` value after which no further image is
    begun. What had to be read is kept: vectors in the store of that backbone, the file's hash and resolution in the
    catalogue.
    """
    store = services.embeddings(backbone)
    ids = list(images)
    found, vectors = store.get(ids)
    answer = Embedded({name: vectors[row] for row, name in enumerate(ids) if found[row]})
    missing = [name for row, name in enumerate(ids) if not found[row]]
    if not missing:
        return answer
    embedder = services.embedder(backbone)

    def read(name: str) -> Picture | TaxonomistError:
        try:
            return read_picture(services, project, images[name], embedder.size)
        except TaxonomistError as error:
            return error
        except Exception as error:  # whatever a hostile file can provoke must cost that one image only
            log.exception("image %s of project %s", name, project)
            return ImageUnavailableError(f"Unexpected error: {type(error).__name__}.")

    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as readers:
        for batch in _batches(missing, BATCH):
            if deadline is not None and time.monotonic() > deadline:
                answer.late.extend(batch)
                continue
            pictures: dict[str, Picture] = {}
            for name, result in zip(batch, readers.map(read, batch), strict=True):
                if isinstance(result, TaxonomistError):
                    answer.failures[name] = result
                else:
                    pictures[name] = result
            if pictures:
                new = embedder.embed(np.stack([picture.pixels for picture in pictures.values()]))
                # In the store's half precision, so that an image gets the same score at first sight as ever after.
                new = new.astype(np.float16).astype(np.float32)
                answer.vectors.update(zip(pictures, new, strict=True))
                _keep(services, project, images, backbone, pictures, new)
            progress(len(answer.vectors) + len(answer.failures), len(ids))
    for name, error in answer.failures.items():
        log.warning("project %s: image %s has no embedding: %s", project, without_query(images[name]), error)
    return answer


def _keep(
    services: Services,
    project: str,
    images: Mapping[str, str],
    backbone: str,
    pictures: Mapping[str, Picture],
    vectors: NDArray[np.float32],
) -> None:
    try:
        services.embeddings(backbone).append(list(pictures), vectors)
        services.catalog.update_many(
            {name: _note_file(project, images[name], picture) for name, picture in pictures.items()}
        )
    except TaxonomistError as error:  # a full disk must not keep an annotator from a suggestion
        log.error("embeddings of %d images could not be kept: %s", len(pictures), error)


def _note_file(project: str, uri: str, picture: Picture) -> Callable[[ImageDocument], ImageDocument]:
    def change(document: ImageDocument) -> ImageDocument:
        projects = dict(document.projects)
        projects.setdefault(project, ProjectLabels(uri=uri))
        return document.model_copy(
            update={
                "uri_orig": document.uri_orig or uri,
                "file_hash": picture.file_hash,
                "resolution_width": picture.width,
                "resolution_height": picture.height,
                "projects": projects,
            }
        )

    return change


def _batches(names: Sequence[str], size: int) -> Iterator[list[str]]:
    rest: Iterable[str] = iter(names)
    while batch := list(islice(rest, size)):
        yield batch
