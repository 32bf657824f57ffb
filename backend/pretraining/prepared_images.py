"""The pictures that a pre-training may see, decoded once and kept: those of the whole catalogue."""

from __future__ import annotations

import logging
from collections.abc import Callable

from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.pipeline import DecodedImage, ImageSource
from taxonomist.inference.preparation import NewImages, PreparationResult, prepare_images
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.training.backbones.spec import BackboneSpec

log = logging.getLogger(__name__)

FAILURES = "failures.csv"


def picture_store(services: Services, size: int) -> PreparedImageStore:
    """Where pictures of `size` pixels are kept."""
    return PreparedImageStore(services.settings.home / "pictures" / str(size), size)


def serving_size(services: Services) -> int:
    """Side in pixels of the pictures that a backbone is served: set, else as now, else the default."""
    champion = services.backbone()
    return services.settings.image_size or (champion.backbone_manifest.size if champion else BackboneSpec().size)


def wanted_images(services: Services) -> list[ImageSource]:
    """Every picture of the catalogue that is in a project and that the settings do not leave out, in order of ids.

    The store may hold more: a picture that was left out or taken from its projects after it was prepared.
    """
    wanted, left_out, private = [], 0, 0
    for document in services.catalog.documents():
        if not document.projects:
            continue  # taken out of all of them, by a person
        if _left_out(document, services.settings):
            left_out += 1
            continue
        if not may_use(document, services.settings):
            private += 1
            continue
        project, here = next(iter(document.projects.items()))
        wanted.append(ImageSource(document.id, here.uri, project))
    log.info("%d pictures are wanted, %d are left out by the settings, %d for privacy", len(wanted), left_out, private)
    return wanted


def prepare_all(
    services: Services, size: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> PreparationResult:
    """Decode every picture that is wanted and not yet in the store of that size.

    Reasons for pictures that cannot be had are in `failures.csv` beside the pictures. Raises `StorageError`.
    """
    prepared = prepare_images(
        wanted_images(services),
        picture_store(services, size),
        lambda source: services.images(source.project).read(source.uri),
        progress=progress,
        note=lambda images: _note(services, images),
        failures_file=services.settings.home / "pictures" / str(size) / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    if prepared.failures:
        log.warning("%d pictures cannot be had; %s says why", len(prepared.failures), FAILURES)
    return prepared


def _left_out(document: ImageDocument, settings: Settings) -> bool:
    # "Keep" is what the thesis' listing 4.1 has for a picture that was looked at and stays.
    sorted_out = (document.sortout or "").strip().casefold() not in {"", "keep"}
    tested = document.sortout_testset or any(here.part == "test" for here in document.projects.values())
    return bool(
        (settings.pretrain_skip_blurred and document.is_blurred)
        or (settings.pretrain_skip_sorted_out and sorted_out)
        or (settings.pretrain_skip_test and tested)
    )


def _note(services: Services, images: NewImages) -> None:
    services.catalog.update_many({result.source.id: _describe(result.image) for result in images})


def _describe(image: DecodedImage) -> Callable[[ImageDocument], ImageDocument | None]:
    seen = {"file_hash": image.file_hash, "resolution_width": image.width, "resolution_height": image.height}

    def change(document: ImageDocument) -> ImageDocument | None:
        unknown = {name: value for name, value in seen.items() if getattr(document, name) is None}
        return document.model_copy(update=unknown) if unknown else None

    return change
