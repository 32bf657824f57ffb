"""Images that wait for further annotators, because a label needs several who agree."""

from __future__ import annotations

from itertools import islice

from taxonomist.backend.services import Services
from taxonomist.taxonomy.agreement import Reason

_LOOKED_AT = 1000  # images, so that the answer is fast


def missing_annotators(services: Services, project: str) -> str | None:
    """Return in a sentence that images wait for further annotators, None where that is not why a project has no label.

    A project with one annotator has no label as long as two are needed.
    """
    needed = services.project_settings(project).annotators
    if needed < 2 or services.catalog.count(project, labelled=True):
        return None
    documents = islice(services.catalog.documents(project, labelled=False), _LOOKED_AT)
    waiting = sum(1 for document in documents if document.projects[project].reason == Reason.TOO_FEW_ANNOTATORS)
    if not waiting:
        return None
    images = "1 image waits" if waiting == 1 else f"{waiting} images wait"
    return f"{images} for a further annotator: a label needs {needed} annotators who agree."


def fewer_annotators(project: str) -> str:
    """Return what to do about it."""
    return (
        f"Let another person annotate the same images, or run `taxonomist settings --project {project} annotators=1`."
    )
