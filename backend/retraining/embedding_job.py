"""The job that embeds the images of a project."""

from __future__ import annotations

from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import ImageUnavailableError


def embed_all(services: Services, project: str, progress: StepProgress) -> str:
    """Embed every image of a project that has no embedding yet. Return the result in one line.

    Raises `ImageUnavailableError` when no image of the project can be read.
    """
    backbone = prepare_backbone(services)
    images = {document.id: document.projects[project].uri for document in services.catalog.documents(project)}
    embedded = embed(
        services,
        project,
        images,
        backbone.version,
        progress=lambda done, total: progress("images", done / max(total, 1)),
    )
    known, failed = len(embedded.vectors), embedded.failures
    if failed and not known:
        reason = str(next(iter(failed.values())))
        raise ImageUnavailableError(f"None of the {len(failed)} images can be read.", hint=reason)
    outcome = f"{known} of {len(images)} images have an embedding, {len(failed)} cannot be read"
    return f"{outcome}, {len(embedded.notes)} of the new ones have a fault" if embedded.notes else outcome
