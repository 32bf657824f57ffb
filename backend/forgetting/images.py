"""Images leave a project: after the deletion of their tasks, or because a person forgets the project or the image.

An image that nothing uses any more is forgotten: its cached file, its embeddings, its prepared pixels, its suggestions,
what the journal has of it, and its document. The steps can be repeated: until the caller marks the image as no longer
dirty, the next one does what a killed one has left.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from taxonomist.backend.services import Services
from taxonomist.storage.catalog import ImageDocument, SqliteCatalog
from taxonomist.storage.home.image_files import forget_image_files

log = logging.getLogger(__name__)

_CHUNK = 500


@dataclass
class UnusedImages:
    """Images that nothing uses: their ids, their addresses, and their parts by project and id."""

    ids: list[str] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)
    parts: dict[tuple[str, str], Literal["test", "train"]] = field(default_factory=dict)


def leave_project(services: Services, project: str, images: Collection[str]) -> int:
    """Take images out of a project, and forget those that nothing else uses. Return how many were forgotten.

    What stays of these is their part of the split. When the images are no longer dirty, call `erase_deleted`. Raises
    `StorageError`.
    """
    ordered, unused = sorted(images), UnusedImages()
    for start in range(0, len(ordered), _CHUNK):
        chunk = ordered[start : start + _CHUNK]
        documents = services.catalog.get_many(chunk)
        _find_unused(services, project, chunk, documents, unused)
        services.catalog.leave_project(project, [id for id in documents if project in documents[id].projects])
        _count_changes(services, project, documents)
        services.journal.unknown_paths.keep(project, {image: {} for image in chunk})
    if unused.ids:
        forget_images(services, unused)
    return len(unused.ids)


def forget_gone(services: Services, images: Mapping[str, str]) -> None:
    """Forget those of the images that no project has and no task shows any more; the address by image id.

    They were deleted, or a person forgot them, while work on them was under way: call it after something of them was
    stored. Nothing is missed: an image leaves its projects before its files are forgotten. Raises `StorageError`.
    """
    documents = services.catalog.get_many(list(images))
    left = {image: documents.get(image, ImageDocument(id=image)) for image in images}
    left = {image: document for image, document in left.items() if not document.projects}
    shown = services.journal.withdrawal.used(list(left)) if left else set()
    gone = {image: document for image, document in left.items() if image not in shown}
    if gone:
        parts = {(project, image): part for image in gone for project, part in gone[image].former_parts.items()}
        forget_images(services, UnusedImages(list(gone), {images[image] for image in gone}, parts))


def forget_images(services: Services, unused: UnusedImages) -> None:
    """Forget images that nothing uses. Raises `StorageError`."""
    ids = frozenset(unused.ids)
    forget_image_files(services.home, ids)
    if services.forget_shared_embeddings(ids):
        forget_image_files(services.home, ids)  # the server may have fetched them again meanwhile
    if (blobs := services.blob_images) is not None:
        for address in unused.addresses:
            blobs.forget(address)
    services.suggestions.delete(image_ids=unused.ids)
    services.bulk_labels.forget_images(unused.ids)
    services.journal.withdrawal.forget_images(unused.ids, unused.parts)
    services.catalog.drop(unused.ids)
    log.info("%d images that nothing uses any more were forgotten", len(ids))


def erase_deleted(services: Services, *, rebuild: bool = False) -> None:
    """Remove deleted rows from the files of the databases, too, see `Database.erase_deleted`."""
    services.suggestions.erase_deleted()
    services.bulk_labels.erase_deleted(rebuild=rebuild)
    services.journal.withdrawal.erase_deleted(rebuild=rebuild)
    if isinstance(services.catalog, SqliteCatalog):
        services.catalog.erase_deleted(rebuild=rebuild)


def _find_unused(
    services: Services,
    project: str,
    images: Sequence[str],
    documents: Mapping[str, ImageDocument],
    unused: UnusedImages,
) -> None:
    """Add the images that nothing uses once they have left the project."""
    shown = services.journal.withdrawal.used(images)
    for image in images:
        document = documents.get(image, ImageDocument(id=image))
        left = document.without_project(project)
        if left.projects or image in shown:
            continue
        unused.ids.append(image)
        unused.parts |= {(name, image): part for name, part in left.former_parts.items()}
        unused.addresses |= {labels.uri for labels in document.projects.values()}
        if document.uri_orig:
            unused.addresses.add(document.uri_orig)


def _count_changes(services: Services, project: str, documents: Mapping[str, ImageDocument]) -> None:
    """Note in the project's record that labels are gone, so that running processes read the labels again."""
    known = [document.projects[project] for document in documents.values() if project in document.projects]
    if services.projects.exists(project):
        services.projects.count_changed_labels(
            project,
            changes=sum(labels.labelled or bool(labels.unanswered) for labels in known),
            waiting=-sum(labels.accepted != labels.trained for labels in known),
        )
