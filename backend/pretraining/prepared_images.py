"""The prepared images of the catalogue: decoded and resized once, for pre-training and for embedding."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.pipeline import DecodedImage, ImageSource
from taxonomist.inference.preparation import NewImages, PreparationResult, prepare_images
from taxonomist.inference.reasons import count_reasons, log_reasons
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.backbones.spec import BackboneSpec

log = logging.getLogger(__name__)

FAILURES = "failures.csv"


def prepared_image_store(services: Services, size: int) -> PreparedImageStore:
    """Return the home folder's store of prepared images with sides of `size` pixels."""
    return PreparedImageStore(services.settings.home / "pictures" / str(size), size)


def serving_size(services: Services) -> int:
    """Return the side in pixels of served images: the setting, else that of the served backbone, else the default."""
    champion = services.backbone()
    return services.settings.image_size or (champion.backbone_manifest.size if champion else BackboneSpec().size)


def wanted_images(services: Services) -> list[ImageSource]:
    """Return every image of the catalogue that is in a project and that the settings do not leave out, in order of ids.

    The store may have more images: those that were left out or removed from their projects after they were prepared.
    """
    wanted, left_out, private = [], 0, 0
    for document in services.catalog.documents():
        if not document.projects:
            continue  # a person has removed it from all projects
        if _left_out(document, services.settings):
            left_out += 1
            continue
        if not may_use(document, services.settings):
            private += 1
            continue
        project, labels = next(iter(document.projects.items()))
        wanted.append(ImageSource(document.id, labels.uri, project))
    log.info("%d images are wanted, %d are left out by the settings, %d for privacy", len(wanted), left_out, private)
    return wanted


def prepare_all(services: Services, size: int, progress: CountProgress = ignore_counts) -> PreparationResult:
    """Decode every wanted image that is not yet in the store of that size, and return the counts.

    `failures.csv` beside the images has the reason for each image that failed. Raises `TrainingError` when all of them
    did, and `StorageError`.
    """
    prepared = prepare_images(
        wanted_images(services),
        prepared_image_store(services, size),
        lambda source: services.images(source.project).read(source.uri),
        progress=progress,
        note=lambda images: _store_properties(services, images),
        failures_file=services.settings.home / "pictures" / str(size) / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    log_reasons(log, f"images that could not be prepared (see {FAILURES})", prepared.failures)
    log_reasons(log, "images that are used although their file has a fault", prepared.notes)
    if prepared.failures and not prepared.new and not prepared.present:
        reason = count_reasons(prepared.failures)[0]
        raise TrainingError(
            f"None of the {len(prepared.failures)} images could be prepared.",
            hint=f"For {reason.count} of them: {reason.message}",
        )
    return prepared


def sample_images(services: Services, size: int, count: int) -> NDArray[np.uint8]:
    """Return up to `count` images of the catalogue, drawn at random, uint8 (n, size, size, 3); nothing of them is kept.

    Images that cannot be read are left out.
    """
    wanted = wanted_images(services)
    drawn = random.Random(0).sample(wanted, min(count, len(wanted)))  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="taxonomist-") as folder:
        store = PreparedImageStore(folder, size, keep_free=0)
        prepare_images(
            drawn,
            store,
            lambda source: services.images(source.project, keep=False).read(source.uri),
            max_pixels=services.settings.max_image_pixels,
        )
        stored, images = store.get([source.id for source in drawn])
        return np.array(images[stored])


def _left_out(document: ImageDocument, settings: Settings) -> bool:
    # "Keep" marks an image that was checked and stays (thesis, listing 4.1).
    sorted_out = (document.sortout or "").strip().casefold() not in {"", "keep"}
    return bool(
        (settings.pretrain_skip_blurred and document.is_blurred) or (settings.pretrain_skip_sorted_out and sorted_out)
    )


def _store_properties(services: Services, images: NewImages) -> None:
    services.catalog.update_many({result.source.id: _add_properties(result.image) for result in images})


def _add_properties(image: DecodedImage) -> Callable[[ImageDocument], ImageDocument | None]:
    properties = {"file_hash": image.file_hash, "resolution_width": image.width, "resolution_height": image.height}

    def change(document: ImageDocument) -> ImageDocument | None:
        unknown = {name: value for name, value in properties.items() if getattr(document, name) is None}
        return document.model_copy(update=unknown) if unknown else None

    return change
