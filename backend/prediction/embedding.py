"""Embeddings of a project's images: taken from the store, or read, decoded, embedded and kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.forgetting.images import forget_gone
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import (
    EMBEDDING,
    DecodedImage,
    ImageFailure,
    ImageResult,
    ImageSource,
    LateImage,
    Outcome,
    in_batches,
    process_images,
)
from taxonomist.inference.preparation import NewImages
from taxonomist.inference.reasons import log_reasons
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.files import lacks_room
from taxonomist.storage.images import without_query
from taxonomist.storage.kept.copies import KeptFile
from taxonomist.taxonomy.errors import TaxonomistError

log = logging.getLogger(__name__)

EmbeddingOutcome: TypeAlias = Outcome[ImageSource, DecodedImage]
LoadImage = Callable[[ImageSource, int], DecodedImage]
"""Returns an image prepared for a size in pixels. Raises an `ImageError` or an `ImageDecodingError`."""


@dataclass
class EmbeddedImages:
    """Embeddings (d,) by image id, and the reason for each image that has none.

    `notes` says what is wrong with images that were read now and are used all the same.
    """

    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    failures: dict[str, TaxonomistError] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)  # not begun before the deadline

    def __or__(self, other: EmbeddedImages) -> EmbeddedImages:
        return EmbeddedImages(
            self.vectors | other.vectors,
            self.failures | other.failures,
            self.notes | other.notes,
            [*self.late, *other.late],
        )


def read_image(services: Services, source: ImageSource, size: int) -> DecodedImage:
    """Return the image, read, decoded and prepared for `size` pixels.

    Raises an `ImageError` when it cannot be read and an `ImageDecodingError` when it cannot be decoded.
    """
    data = services.images(source.project).read(source.uri)
    return DecodedImage.from_bytes(data, size, max_pixels=services.settings.max_image_pixels)


def embed(
    services: Services,
    project: str,
    images: Mapping[str, str],
    backbone: str,
    *,
    deadline: float | None = None,
    progress: CountProgress = ignore_counts,
    load: LoadImage | None = None,
    listed: bool = False,
    must_keep: bool = False,
) -> EmbeddedImages:
    """Return the embeddings of a project's images by that version of the backbone.

    `images` has the address by image id. No image is begun after `deadline`, a value of `time.monotonic()`. New
    embeddings are kept in the store of the backbone, and the hash and the resolution of their files in the catalogue.
    `load` is called for the images that have no embedding, in several threads; by default it is `read_image`. An image
    that another thread of this process is embedding is waited for.

    `listed` says that the images were listed in the catalogue, maybe hours ago: one that has left it since then gets no
    document again, and what was just kept of it is forgotten. Raises `StorageError` when that fails, and with
    `must_keep` when the disk is full. Without it, the embeddings are returned all the same.
    """
    embedded = EmbeddedImages()
    missing = list(images)
    while missing := _take_known(services, backbone, embedded, missing):
        own, others = services.embedding.claim((backbone, image) for image in missing)
        try:
            sources = [ImageSource(image, images[image], project) for _, image in own]
            for outcome in _embed_new(services, backbone, sources, load, deadline, listed=listed, must_keep=must_keep):
                _add(embedded, outcome.source.id, outcome)
                services.embedding.finish((backbone, outcome.source.id), outcome)
                progress(len(embedded.vectors) + len(embedded.failures), len(images))
        finally:
            for key in own:
                services.embedding.finish(key)
        for (_, image), future in others.items():
            _add(embedded, image, _wait(future, ImageSource(image, images[image], project), deadline))
        settled = {*embedded.vectors, *embedded.failures, *embedded.late}
        missing = [image for image in missing if image not in settled]
    _log(f"project {project}: images without an embedding", embedded.failures, images)
    _log(f"project {project}: images that are used although their file has a fault", embedded.notes, images)
    return embedded


def embed_without_storing(
    services: Services,
    project: str,
    images: Mapping[str, str],
    backbone: str,
    *,
    deadline: float | None = None,
    with_token: bool = True,
) -> EmbeddedImages:
    """Return the embeddings of images that are only looked at, such as Label Studio's sample in a preview.

    Known embeddings are taken from the store. Of the others neither the file, nor the embedding, nor a document is
    kept. The arguments are those of `embed`; `with_token` is that of `Services.images`.
    """
    embedded = EmbeddedImages()
    missing = _take_known(services, backbone, embedded, list(images))
    if not missing:
        return embedded
    embedder = services.embedder(backbone)

    def load(source: ImageSource) -> DecodedImage:
        data = services.images(project, keep=False, with_token=with_token).read(source.uri)
        return DecodedImage.from_bytes(data, embedder.size, max_pixels=services.settings.max_image_pixels)

    sources = [ImageSource(image, images[image], project) for image in missing]
    with closing(process_images(sources, load, embedder, deadline=deadline)) as outcomes:
        for outcome in outcomes:
            _add(embedded, outcome.source.id, outcome)
    for image in missing:
        if image in embedded.vectors:
            embedded.vectors[image] = _as_stored(embedded.vectors[image])
    _log(f"project {project}: images without an embedding", embedded.failures, images)
    return embedded


def _log(what: str, messages: Mapping[str, object], uris: Mapping[str, str]) -> None:
    by_address = {without_query(uris[image]): message for image, message in messages.items()}
    log_reasons(log, what, by_address)


def _take_known(services: Services, backbone: str, embedded: EmbeddedImages, images: Sequence[str]) -> list[str]:
    """Add the embeddings that the store has; return the other images."""
    if not images:
        return []
    found, vectors = services.embeddings(backbone).get(images)
    embedded.vectors |= {image: vectors[row] for row, image in enumerate(images) if found[row]}
    return [image for row, image in enumerate(images) if not found[row]]


def _embed_new(
    services: Services,
    backbone: str,
    sources: Sequence[ImageSource],
    load: LoadImage | None,
    deadline: float | None,
    *,
    listed: bool,
    must_keep: bool,
) -> Iterator[EmbeddingOutcome]:
    """Yield what came of each image, after its embedding was kept."""
    if not sources:
        return
    embedder = services.embedder(backbone)

    def load_image(source: ImageSource) -> DecodedImage:
        return load(source, embedder.size) if load else read_image(services, source, embedder.size)

    with closing(process_images(sources, load_image, embedder, deadline=deadline)) as outcomes:
        for batch in in_batches(outcomes, EMBEDDING.batch):
            new = [outcome for outcome in batch if isinstance(outcome, ImageResult)]
            kept = _keep(services, backbone, new, listed=listed, must_keep=must_keep) if new else {}
            if listed and (others := [outcome.source for outcome in batch if not isinstance(outcome, ImageResult)]):
                forget_gone(services, {source.id: source.uri for source in others})
            for outcome in batch:
                if isinstance(outcome, ImageResult):
                    yield replace(outcome, vectors=kept[outcome.source.id][None])
                else:
                    yield outcome


def _add(embedded: EmbeddedImages, image: str, outcome: EmbeddingOutcome | None) -> None:
    match outcome:
        case ImageResult():
            embedded.vectors[image] = outcome.vectors[0]
            if outcome.image.note:
                embedded.notes[image] = outcome.image.note
        case ImageFailure():
            embedded.failures[image] = outcome.error
        case LateImage():
            embedded.late.append(image)


def _wait(
    future: Future[EmbeddingOutcome | None], source: ImageSource, deadline: float | None
) -> EmbeddingOutcome | None:
    """Return what came of an image that another thread embeds; None when it has not finished it.

    The other thread may have had less time, so an image that was late for it is not late here.
    """
    try:
        outcome = future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return LateImage(source)
    is_late = isinstance(outcome, LateImage) or (isinstance(outcome, ImageFailure) and outcome.is_late)
    return None if is_late else outcome


def _keep(
    services: Services, backbone: str, new: NewImages, *, listed: bool, must_keep: bool
) -> dict[str, NDArray[np.float32]]:
    """Keep the embeddings and what is known of the files; return the embeddings by image id, `_as_stored`."""
    ids = [result.source.id for result in new]
    vectors = _as_stored(np.concatenate([result.vectors for result in new]))
    try:
        services.journal.kept.keep_files(
            {r.source.id: KeptFile(r.image.file_hash, r.image.width, r.image.height) for r in new}
        )
        services.catalog.update_many(
            {result.source.id: _describe_file(result.source, result.image, listed=listed) for result in new}
        )
        # Last: an image that has an embedding is not read again, and its file would stay unknown.
        services.embeddings(backbone).append(ids, vectors)
    except TaxonomistError as error:  # a suggestion is possible even when the disk is full
        if must_keep and lacks_room(error):
            raise
        log.error("embeddings of %d images could not be kept: %s", len(ids), error)
    else:
        forget_gone(services, {result.source.id: result.source.uri for result in new})
    return dict(zip(ids, vectors, strict=True))


def _as_stored(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings in the half precision of the store, so that an image gets the same scores now and later."""
    return vectors.astype(np.float16).astype(np.float32)


def _describe_file(
    source: ImageSource, image: DecodedImage, *, listed: bool
) -> Callable[[ImageDocument], ImageDocument | None]:
    """Return the change that stores what is known of a file. An image that was `listed` joins no project by it."""

    def change(document: ImageDocument) -> ImageDocument | None:
        if listed and not document.projects:
            return None
        projects = dict(document.projects)
        if not listed:
            projects.setdefault(source.project, ProjectLabels(uri=source.uri))
        return document.model_copy(
            update={
                "uri_orig": document.uri_orig or source.uri,
                "file_hash": image.file_hash,
                "resolution_width": image.width,
                "resolution_height": image.height,
                "projects": projects,
            }
        )

    return change
