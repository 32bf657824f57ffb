"""Images that wait for further annotators, because a label needs several who agree."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from taxonomist.backend.services import Services
from taxonomist.taxonomy.agreement import Reason

_LOOKED_AT = 1000  # images, so that the answer is fast


@dataclass(frozen=True)
class MissingAnnotators:
    """Images that wait for further annotators, since a label takes `needed` who agree."""

    images: int
    needed: int

    def __str__(self) -> str:
        images = "1 image waits" if self.images == 1 else f"{self.images} images wait"
        return f"{images} for a further annotator: a label needs {self.needed} annotators who agree."


def missing_annotators(services: Services, project: str) -> MissingAnnotators | None:
    """Return the images that wait for further annotators, None where that is not why a project has no label.

    A project with one annotator has no label as long as two are needed.
    """
    needed = services.project_settings(project).annotators
    if needed < 2 or services.catalog.count(project, labelled=True):
        return None
    documents = islice(services.catalog.documents(project, labelled=False), _LOOKED_AT)
    waiting = sum(1 for document in documents if document.projects[project].reason == Reason.TOO_FEW_ANNOTATORS)
    return MissingAnnotators(waiting, needed) if waiting else None


def fewer_annotators(project: str) -> str:
    """Return what to do about it."""
    return (
        f"Let another person annotate the same images, or run `taxonomist settings --project {project} annotators=1`."
    )
