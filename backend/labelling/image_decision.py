"""The decision on one image: from its annotations to accepted labels, and how the catalogue stores them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from taxonomist.storage.catalog.documents import AnnotatorLabels, ImageDocument, ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationRecord, is_label_studio
from taxonomist.taxonomy.agreement import AgreementPolicy, Reason, Verdict, Weights, decide
from taxonomist.taxonomy.annotations import Annotation, newest_of_each, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.numbers import whole_number
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

log = logging.getLogger(__name__)
DocumentChange = Callable[[ImageDocument], ImageDocument]


@dataclass(frozen=True)
class ImageDecision:
    """The annotations of one image and the verdict of each control on them.

    `unknown` counts the labels of people by the control and the path that they name and the taxonomy does not have.
    `bulk`: without the annotations that were written to many tasks at once, the labels would be others.
    """

    uri: str
    task_id: str | None
    annotations: tuple[Annotation, ...]
    verdicts: Mapping[str, Verdict]  # by control
    unknown: Mapping[tuple[str, TaxonomyPath], int] = field(default_factory=dict)
    bulk: bool = False

    @property
    def unanswered(self) -> list[str]:
        """The controls that enough annotators left empty."""
        return [control for control, verdict in self.verdicts.items() if verdict.reason is Reason.EMPTY]

    @property
    def accepted(self) -> dict[str, list[list[str]]]:
        """The accepted paths of each control that has at least one, in the format of the catalogue."""
        return {
            control: [list(path) for path in verdict.accepted]
            for control, verdict in self.verdicts.items()
            if verdict.accepted
        }


def read_annotations(
    records: Sequence[AnnotationRecord], config: LabelConfig
) -> list[tuple[AnnotationRecord, Annotation]]:
    """Return the annotations of one image, with their records. Those that cannot be read are logged and left out.

    A number names an annotator within one source only: where an image has annotations of several sources, those from
    elsewhere than Label Studio name their source with the number.
    """
    own = max((record.source for record in records), key=lambda source: (is_label_studio(source), source), default="")
    annotations = []
    for record in records:
        try:
            annotation = parse_annotation(record.data, config, task_id=record.task_id)
        except BadRequestError as error:
            log.error("annotation %s of task %s is skipped: %s", record.annotation_id, record.task_id, error)
            continue
        if record.source != own and annotation.annotator.removeprefix("unknown-").isdigit():
            annotation = replace(annotation, annotator=f"{annotation.annotator} of {record.source}")
        annotations.append((record, annotation))
    return annotations


def annotations_by_control(records: Sequence[AnnotationRecord], config: LabelConfig) -> dict[str, list[Annotation]]:
    """Return the annotations of one image by the controls of this image, not those of other images in its tasks."""
    found: dict[str, list[Annotation]] = {}
    for record, annotation in read_annotations(records, config):
        controls = [tree.control for tree in _trees_of(record, config)]
        for control in controls:
            found.setdefault(control, []).append(annotation.of_controls(controls))
    return found


def decide_image(
    records: Sequence[AnnotationRecord],
    config: LabelConfig,
    policy: AgreementPolicy,
    weights: Mapping[str, Weights] | None = None,
) -> ImageDecision:
    """Return the decision on one image from its live annotations; `weights`, by control, where they are weighed.

    The controls of the image decide, not those of other images in its tasks. Annotations and regions that cannot be
    read are logged and do not count, like paths that the taxonomy does not have.
    """
    weights = weights or {}
    annotations = []
    of_control: dict[str, list[Annotation]] = {}
    for record, annotation in read_annotations(records, config):
        for region in annotation.unreadable:
            log.warning("annotation %s of task %s: %s", record.annotation_id, record.task_id, region)
        for path in annotation.unknown:  # `labels_outside` counts them: thousands may name a node that is gone
            log.info("annotation %s of task %s: %s", record.annotation_id, record.task_id, path)
        controls = [tree.control for tree in _trees_of(record, config)]
        annotations.append(annotation.of_controls(controls))
        for control in controls:
            of_control.setdefault(control, []).append(annotation)
    # The task is one that Label Studio can open, if there is one.
    newest = max(records, key=lambda record: (is_label_studio(record.source), record.updated_at), default=None)
    judged = [tree.control for tree in config.trees if tree.control in of_control or not of_control]

    def verdict(control: str, *, with_bulk: bool = True) -> Verdict:
        counting = [found for found in of_control.get(control, []) if with_bulk or not found.bulk]
        return decide(counting, control, policy, weights.get(control))

    verdicts = {control: verdict(control) for control in judged}
    rests_on_bulk = any(annotation.bulk for annotation in annotations) and any(
        _label(verdicts[control]) != _label(verdict(control, with_bulk=False)) for control in judged
    )
    if records and not annotations:
        none = Verdict((), Reason.UNREADABLE, 0, None, f"None of the {len(records)} annotations can be read.")
        verdicts = dict.fromkeys(verdicts, none)
    return ImageDecision(
        uri=newest.uri if newest else "",
        task_id=newest.task_id if newest else None,
        annotations=tuple(annotations),
        verdicts=verdicts,
        unknown=_unknown(annotations, judged, config),
        bulk=rests_on_bulk,
    )


def _label(verdict: Verdict) -> tuple[tuple[TaxonomyPath, ...], bool]:
    """Return what a training learns of a verdict: its paths, or that the control is left empty."""
    return verdict.accepted, verdict.reason is Reason.EMPTY


def _unknown(
    annotations: Sequence[Annotation], judged: Sequence[str], config: LabelConfig
) -> Counter[tuple[str, TaxonomyPath]]:
    """Count the unknown paths in the standing annotations, of the image's own controls and of those that are gone."""
    return Counter(
        (unknown.control, unknown.path)
        for annotation in newest_of_each(annotations)
        if not annotation.skipped and not annotation.rejected
        for unknown in annotation.unknown
        if unknown.control in judged or unknown.control in config.former_controls
    )


def _trees_of(record: AnnotationRecord, config: LabelConfig) -> tuple[Tree, ...]:
    """Return the trees that label the image of a record: those of the `<Image>` that shows it."""
    if record.task_data is None:
        return config.trees_of(config.first_image)
    shown = config.addresses(record.task_data)
    names = [name for name, uri in shown.items() if image_id(uri) == record.image_id]
    return tuple(tree for name in names for tree in config.trees_of(name))


def store_decision(project: str, decision: ImageDecision) -> DocumentChange:
    """Return the change that writes the decision into the document of its image."""
    reviewed = any(annotation.reviewed or annotation.ground_truth for annotation in decision.annotations)
    entries = [entry for annotation in newest_of_each(decision.annotations) for entry in _entries(annotation)]
    shown = next((verdict for verdict in decision.verdicts.values() if verdict.accepted), None)
    shown = shown or next(iter(decision.verdicts.values()))

    def change(document: ImageDocument) -> ImageDocument:
        labels = document.projects.get(project) or ProjectLabels(uri=decision.uri)
        labels = labels.model_copy(
            update={
                "uri": decision.uri or labels.uri,
                "task_id": decision.task_id or labels.task_id,
                "accepted": decision.accepted,
                "unanswered": decision.unanswered,
                "bulk": decision.bulk,
                "reason": shown.reason.value if shown.reason else None,
                "detail": shown.detail,
                "decided_by": shown.decided_by,
                "updated_at": datetime.now(UTC),
            }
        )
        document = document.model_copy(update={"uri_orig": document.uri_orig or labels.uri})
        return document.in_project(project, labels).annotated(project, entries, has_review=reviewed)

    return change


def _entries(annotation: Annotation) -> list[AnnotatorLabels]:
    """Return the entries in the form of the thesis (listing 4.3): one per control, with all paths of the annotator."""
    number = whole_number(annotation.annotator)
    return [
        AnnotatorLabels.model_validate(
            {
                "annotator_id": annotation.annotator if number is None else number,
                "taxonomy": [list(path) for path in paths],
                "control": control,
                "updated_at": annotation.updated_at.isoformat(),
            }
        )
        for control, paths in annotation.labels.items()
        if paths
    ]
