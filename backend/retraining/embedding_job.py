"""The job that embeds the images of a project."""

from __future__ import annotations

from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress


def embed_all(services: Services, project: str, progress: StepProgress) -> str:
    """Embed every image of a project that has no embedding yet. Return the result in one line."""
    backbone = prepare_backbone(services)
    images = {document.id: document.projects[project].uri for document in services.catalog.documents(project)}
    embedded = embed(
        services,
        project,
        images,
        backbone.version,
        progress=lambda done, total: progress("images", done / max(total, 1)),
    )
    return f"{len(embedded.vectors)} of {len(images)} images have an embedding, {len(embedded.failures)} cannot be read"
