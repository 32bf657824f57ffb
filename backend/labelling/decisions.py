"""From annotations in the journal to accepted labels in the catalogue."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.catalog.documents import AnnotatorLabels, ImageDocument, ProjectLabels
from taxonomist.storage.journal import AnnotationRecord
from taxonomist.taxonomy.agreement import AgreementPolicy, Verdict, decide
from taxonomist.taxonomy.annotations import Annotation, newest_of_each, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig

log = logging.getLogger(__name__)
DocumentChange = Callable[[ImageDocument], ImageDocument]


@dataclass(frozen=True)
class Labelled:
    """What the annotations of one image came to."""

    uri: str
    task_id: str | None
    annotations: tuple[Annotation, ...]
    verdicts: Mapping[str, Verdict]  # by control

    @property
    def accepted(self) -> dict[str, list[list[str]]]:
        """The accepted paths of each control that has some, in the form that the catalogue keeps."""
        return {
            control: [list(path) for path in verdict.accepted]
            for control, verdict in self.verdicts.items()
            if verdict.accepted
        }


def decide_dirty(services: Services, project: str, limit: int) -> bool:
    """Decide the labels of up to `limit` images that wait for it; False when none waits.

    An image without annotations loses its label, one without task leaves the project. Raises `ConfigError` when the
    project's config has no taxonomy; the images go on waiting then.
    """
    dirty = services.journal.dirty(project)
    if not dirty.images and not dirty.removed:
        return False
    for image in dirty.removed:
        services.catalog.leave_project(project, image)
    services.journal.done(project, dirty.removed, dirty.position)
    images = sorted(dirty.images)[:limit]
    if images:
        update_labels(services, project, images)
        services.journal.done(project, images, dirty.position)
    return True


def decide_anew(services: Services, project: str) -> None:
    """Decide every image again when the taxonomy or the rule of agreement changed since.

    Raises `ConfigError` when the project's config has no taxonomy.
    """
    if services.projects.get(project).decided_with not in {None, _rule(services, project)}:
        if images := [document.id for document in services.catalog.documents(project)]:
            update_labels(services, project, images)
        services.projects.update(project, decided_with=_rule(services, project))


def _rule(services: Services, project: str) -> str:
    """A fingerprint of what labels depend on besides the annotations: the taxonomy and the rule of agreement."""
    trees = services.label_config(project).trees
    rule = repr((services.settings.agreement, [tree.fingerprint for tree in trees]))
    return hashlib.sha256(rule.encode()).hexdigest()


def update_labels(services: Services, project: str, images: Collection[str]) -> None:
    """Decide the labels of these images anew, and note them in the catalogue.

    How many changed is counted for the next training; images that nobody has read yet are to be embedded. Raises
    `ConfigError` when the project's config has no taxonomy.
    """
    config = services.label_config(project)
    policy = services.settings.agreement
    before: dict[str, ImageDocument] = {}
    labels: dict[str, dict[str, list[list[str]]]] = {}
    changes: dict[str, DocumentChange] = {}
    for image in images:
        records = list(services.journal.annotations(project, image))
        task = None if records else next(iter(services.journal.tasks(project, image)), None)
        labelled = judge(records, config, policy)
        if task:
            labelled = replace(labelled, uri=task.uri, task_id=task.task_id)
        labels[image] = labelled.accepted
        changes[image] = _seen(before, _note(project, labelled))
    services.catalog.update_many(changes)
    services.projects.count_changed_labels(
        project, sum(labels[image] != _accepted(before[image], project) for image in images)
    )
    if services.projects.get(project).decided_with is None:
        services.projects.update(project, decided_with=_rule(services, project))
    if any(document.file_hash is None for document in before.values()):
        services.jobs.enqueue(JobKind.EMBED, project, "new images")


def judge(records: Sequence[AnnotationRecord], config: LabelConfig, policy: AgreementPolicy) -> Labelled:
    """The verdict on one image, given its live annotations. A path that the taxonomy lacks is logged, never counted."""
    annotations = []
    for record in records:
        try:
            annotation = parse_annotation(record.data, config, task_id=record.task_id)
        except BadRequestError as error:
            log.error("annotation %s of task %s is left out: %s", record.annotation_id, record.task_id, error)
            continue
        for unknown in annotation.unknown:
            log.warning("annotation %s of task %s: %s", record.annotation_id, record.task_id, unknown)
        annotations.append(annotation)
    newest = max(records, key=lambda record: record.updated_at, default=None)
    return Labelled(
        uri=newest.uri if newest else "",
        task_id=newest.task_id if newest else None,
        annotations=tuple(annotations),
        verdicts={tree.control: decide(annotations, tree.control, policy) for tree in config.trees},
    )


def _seen(before: dict[str, ImageDocument], change: DocumentChange) -> DocumentChange:
    """The change, which notes what the document was, so that nobody has to read it for that; when it is called again,
    what it was then."""

    def noting(document: ImageDocument) -> ImageDocument:
        before[document.id] = document
        return change(document)

    return noting


def _accepted(document: ImageDocument, project: str) -> dict[str, list[list[str]]]:
    here = document.projects.get(project)
    return here.accepted if here else {}


def _note(project: str, labelled: Labelled) -> DocumentChange:
    reviewed = any(annotation.reviewed or annotation.ground_truth for annotation in labelled.annotations)
    entries = [entry for annotation in newest_of_each(labelled.annotations) for entry in _entries(annotation)]
    shown = next((verdict for verdict in labelled.verdicts.values() if verdict.accepted), None)
    shown = shown or next(iter(labelled.verdicts.values()))

    def change(document: ImageDocument) -> ImageDocument:
        here = document.projects.get(project) or ProjectLabels(uri=labelled.uri)
        here = here.model_copy(
            update={
                "uri": labelled.uri or here.uri,
                "task_id": labelled.task_id or here.task_id,
                "accepted": labelled.accepted,
                "reason": shown.reason.value if shown.reason else None,
                "detail": shown.detail,
                "decided_by": shown.decided_by,
                "updated_at": datetime.now(UTC),
            }
        )
        document = document.model_copy(update={"uri_orig": document.uri_orig or here.uri})
        return document.in_project(project, here).annotated(project, entries, has_review=reviewed)

    return change


def _entries(annotation: Annotation) -> list[AnnotatorLabels]:
    """The thesis' form (listing 4.3): of an annotator all paths that they named."""
    return [
        AnnotatorLabels.model_validate(
            {
                "annotator_id": int(annotation.annotator) if annotation.annotator.isdigit() else annotation.annotator,
                "taxonomy": [list(path) for path in paths],
                "control": control,
                "updated_at": annotation.updated_at.isoformat(),
            }
        )
        for control, paths in annotation.labels.items()
        if paths
    ]
