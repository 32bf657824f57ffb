"""The job that embeds the images of a project."""

from __future__ import annotations

import logging

from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.labelling_order import has_order
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.progress import CountProgress, StepProgress
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import DamagedError, ImageUnavailableError, NotFoundError

log = logging.getLogger(__name__)


def embed_all(services: Services, project: str, progress: StepProgress) -> str:
    """Embed every image of a project that has no embedding yet. Return the result in one line.

    A project that keeps a head on another backbone than the served one needs the embeddings of both: its suggestions
    and look-alikes use that of its head. Raises `ImageUnavailableError` when no image of the project can be read.
    """
    backbone = prepare_backbone(services)
    images = {document.id: document.projects[project].uri for document in services.catalog.documents(project)}
    other = champions_backbone(services, project, backbone)
    versions = [*([other.version] if other else []), backbone.version]
    for number, version in enumerate(versions):
        part = _part_of(progress, number, len(versions))
        embedded = embed(services, project, images, version, progress=part, listed=True, must_keep=True)
    known, failed = len(embedded.vectors), embedded.failures
    if failed and not known:
        reason = str(next(iter(failed.values())))
        raise ImageUnavailableError(f"None of the {len(failed)} images can be read.", hint=reason)
    if has_order(services, project) and services.projects.get(project).ml_backend is not None:
        services.jobs.enqueue(JobKind.PUSH, project, "new images are placed in the order of labelling")
    outcome = f"{known} of {len(images)} images have an embedding, {len(failed)} cannot be read"
    return f"{outcome}, {len(embedded.notes)} of the new ones have a fault" if embedded.notes else outcome


def _part_of(progress: StepProgress, number: int, parts: int) -> CountProgress:
    """Return the progress of one part of the job; parts are counted from 0."""
    return lambda done, total: progress("images", (number + done / max(total, 1)) / parts)


def champions_backbone(services: Services, project: str, backbone: ModelVersion) -> ModelVersion | None:
    """Return the backbone of the project's champion where that is another one than `backbone`, else None.

    A champion that cannot be read is logged; a new head is then not compared with it.
    """
    registry, name = services.registry, registry_name(project)
    champion = registry.champion(name)
    if champion is None:
        return None
    try:
        version = registry.get(name, champion).head_manifest.backbone
        return registry.get(BACKBONE, version) if version != backbone.version else None
    except (NotFoundError, DamagedError) as error:
        log.warning("project %s: the backbone of its champion %s is not known: %s", project, champion, error)
        return None
