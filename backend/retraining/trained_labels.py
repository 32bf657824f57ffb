"""What a training keeps about labels: the part of each image before it begins, what it has learned once it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.training.split import Part


def keep_parts(services: Services, project: str, parts: Mapping[str, Part], known: Mapping[str, Part | None]) -> None:
    """Store the part of each image before anything is trained; later trainings keep it.

    `known` has the parts that the documents of the images had when they were read.
    """

    def put_in(part: Part) -> Callable[[ImageDocument], ImageDocument | None]:
        def change(document: ImageDocument) -> ImageDocument | None:
            labels = document.projects.get(project)
            if labels is None or labels.part == part:
                return None
            return document.in_project(project, labels.model_copy(update={"part": part}))

        return change

    new = {image: put_in(part) for image, part in parts.items() if part != known.get(image)}
    services.catalog.update_many(new)
    services.journal.kept.keep_parts(project, parts)


def keep_trained(services: Services, project: str, learned: Sequence[ImageDocument], counted: int) -> None:
    """Store the labels of these documents as those of the last training; call it once that has succeeded.

    `counted` labels were new when the documents were read: they are no longer, except those that changed meanwhile.
    """
    changed: dict[str, int] = {}

    def keep(then: ImageDocument, document: ImageDocument) -> ImageDocument | None:
        labels, accepted = document.projects.get(project), then.projects[project].accepted
        if labels is None or labels.trained == accepted:
            changed.pop(then.id, None)
            return None
        # What was counted since, or will be, compares with the label of the training before.
        since = (labels.accepted != labels.trained) - (accepted != labels.trained)
        changed[then.id] = (labels.accepted != accepted) - since
        return document.in_project(project, labels.model_copy(update={"trained": accepted}))

    new = [
        document for document in learned if document.projects[project].trained != document.projects[project].accepted
    ]
    services.catalog.update_many({document.id: partial(keep, document) for document in new})
    again = sum(changed.values())
    services.projects.change(
        project, lambda record: {"changed_labels": max(0, record.changed_labels - counted + again)}
    )
