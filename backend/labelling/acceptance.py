"""What became of suggestions: how many annotators accepted, and whether each version keeps its promise.

It follows from the journal and the suggestions that are kept, and needs nothing of Label Studio, which forgets the
prediction of an annotation when the prediction is removed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from taxonomist.backend.label_studio.predictions import MODEL_PREFIX
from taxonomist.backend.labelling.image_decision import ImageDecision
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.suggestions import Answer, Promise, StoredSuggestion
from taxonomist.inference.pipeline import in_batches
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationRecord
from taxonomist.taxonomy.agreement import Reason
from taxonomist.taxonomy.annotations import Annotation, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError, DamagedError, NotFoundError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.monitoring import PromiseWatch
from taxonomist.taxonomy.paths import TaxonomyPath

log = logging.getLogger(__name__)
CHUNK = 500


@dataclass(frozen=True)
class Acceptance:
    """Of the `shown` suggestions that a person answered, `accepted` are in the answer: as suggested, or deeper."""

    shown: int = 0
    accepted: int = 0


def count_accepted(services: Services, project: str) -> dict[str, Acceptance]:
    """Return by model version, as Label Studio knows it, how many suggestions were accepted.

    An annotation answers, for each control, the newest suggestion that its task had when it was created. What the model
    made itself, what was skipped, and what was written to many tasks at once answers nothing. A project whose taxonomy
    is not known has no counts.
    """
    if not services.projects.get(project).label_config:
        return {}
    config = services.label_config(project)
    source = services.projects.get(project).source
    counts: dict[str, Acceptance] = {}
    services.journal.fold()
    for records in in_batches(services.journal.annotations(project, source=source), CHUNK):
        tasks = {record.task_id for record in records}
        suggested: dict[str, list[StoredSuggestion]] = {}
        for row in services.suggestions.of_tasks(project, tasks):
            suggested.setdefault(row.task_id, []).append(
                replace(row, control=config.present(row.control), path=_node_now(row, config) or row.path)
            )
        if not suggested:
            continue
        images = _other_images(services, project, source, suggested)
        for record in records:
            for version, is_accepted in _answers(record, config, suggested.get(record.task_id, []), images):
                known = counts.get(version, Acceptance())
                counts[version] = Acceptance(known.shown + 1, known.accepted + is_accepted)
    return counts


def _node_now(row: StoredSuggestion, config: LabelConfig) -> TaxonomyPath | None:
    """Return the suggested node under the name that it has now, as the labels have it; None for one that is gone."""
    control = config.present(row.control)
    return next((tree.node_of(row.path) for tree in config.trees if tree.control == control), None)


def prefilled(
    services: Services, project: str, config: LabelConfig, records: Iterable[AnnotationRecord]
) -> set[tuple[str, str, str]]:
    """Return which of the annotations answered a suggestion: their source, their id, and the control of now.

    The task then showed a suggestion for the control when the annotation was created.
    """
    source = services.projects.get(project).source
    found: set[tuple[str, str, str]] = set()
    for chunk in in_batches((record for record in records if record.source == source), CHUNK):
        suggested: dict[str, list[StoredSuggestion]] = {}
        for row in services.suggestions.of_tasks(project, {record.task_id for record in chunk}):
            suggested.setdefault(row.task_id, []).append(row)
        images = _other_images(services, project, source, suggested) if suggested else {}
        for record in chunk:
            shown = _shown(record, suggested.get(record.task_id, []), images)
            found |= {(record.source, record.annotation_id, config.present(control)) for control in shown}
    return found


def prefilled_controls(services: Services, project: str, images: Collection[str]) -> dict[str, frozenset[str]]:
    """Return by image the controls, as they are named now, for which an annotator of it saw a suggestion.

    An image without one is absent; blind tasks show none. What was skipped does not count. Raises `ConfigError` when
    the labelling config has no taxonomy. Suggestions in a damaged file are lost, and logged.
    """
    config, source = services.label_config(project), services.projects.get(project).source
    shown: dict[str, list[StoredSuggestion]] = {}
    try:
        for row in services.suggestions.of_images(project, images):
            if not row.blind:
                shown.setdefault(row.image_id, []).append(row)
    except DamagedError as error:
        log.error("project %s: it is not known which tasks were pre-filled: %s", project, error)
        return {}
    found: dict[str, frozenset[str]] = {}
    for image, rows in shown.items():
        annotated: dict[str, float] = {}  # by task, the time of the last one
        for record in services.journal.annotations(project, image, source=source):
            if not record.data.get("was_cancelled"):
                at = record.created_at.timestamp()
                annotated[record.task_id] = max(at, annotated.get(record.task_id, at))
        controls = {config.present(row.control) for row in rows if row.at <= annotated.get(row.task_id, -math.inf)}
        if controls:
            found[image] = frozenset(controls)
    return found


def _other_images(
    services: Services, project: str, source: str, task_ids: Iterable[str]
) -> Mapping[str, frozenset[str]]:
    """Return the ids of the images of tasks with several images, by task."""
    tasks = services.journal.tasks(project, source=source, ids=list(task_ids))
    return {task.task_id: frozenset(map(image_id, task.images.values())) for task in tasks if task.images}


def _answers(
    record: AnnotationRecord,
    config: LabelConfig,
    suggested: Iterable[StoredSuggestion],
    images: Mapping[str, frozenset[str]],
) -> Iterator[tuple[str, bool]]:
    """Yield the version of each suggestion that the annotation answers, and whether it is accepted."""
    shown = _shown(record, suggested, images)
    if not shown:
        return
    try:
        annotation: Annotation = parse_annotation(record.data, config, task_id=record.task_id)
    except BadRequestError:
        return
    if annotation.by_model or annotation.skipped or annotation.bulk:
        return
    for control, row in shown.items():
        paths = annotation.labels.get(control, ())
        yield row.version, any(path[: len(row.path)] == row.path for path in paths)


def keep_answers(
    services: Services,
    project: str,
    config: LabelConfig,
    decisions: Mapping[str, ImageDecision],
    product_of: Callable[[str], str | None],
) -> None:
    """Keep what the decisions on images say about their suggestions, and watch the promises of these versions.

    `product_of` returns the product of an image, None where it is not known. A suggestion is answered by the accepted
    label of its image, or by people who agree that the control is left empty. It is right when a label goes through it,
    and not judged when a label stops above it on the same path, as in the calibration, while its node is gone, or by a
    label that rests on what was written to many tasks at once. It counts under the names that control and node have
    now. Raises `StorageError`; suggestions in a damaged file are lost, and cost no label.
    """
    try:
        suggested: dict[str, list[StoredSuggestion]] = {}
        for row in services.suggestions.of_images(project, decisions.keys()):
            suggested.setdefault(row.image_id, []).append(row)
        if not suggested:
            return
        answers = [
            answer
            for image, rows in suggested.items()
            if not decisions[image].bulk
            for answer in _image_answers(rows, config, decisions[image], product_of(image) or image)
        ]
        services.suggestions.keep_answers(project, suggested.keys(), answers)
        _watch(services, project, config, {row.version for rows in suggested.values() for row in rows})
    except DamagedError as error:
        log.error("project %s: it is not known what became of suggestions: %s", project, error)


def _image_answers(
    suggested: Iterable[StoredSuggestion], config: LabelConfig, decision: ImageDecision, product: str
) -> Iterator[Answer]:
    """Yield the answers to the suggestions for an image: by task and control, the newest before a person annotated."""
    annotated: dict[str, float] = {}
    for annotation in decision.annotations:
        if not annotation.by_model and not annotation.skipped:
            at = annotation.created_at.timestamp()
            annotated[annotation.task_id] = min(at, annotated.get(annotation.task_id, math.inf))
    newest = {
        (row.task_id, config.present(row.control)): row
        for row in suggested
        if row.at <= annotated.get(row.task_id, -math.inf)
    }
    for (task, control), row in newest.items():
        verdict = decision.verdicts.get(control)
        if verdict is None or not (verdict.accepted or verdict.reason is Reason.EMPTY):
            continue
        suggestion = _node_now(row, config)
        if suggestion is None:  # it is not known what it became
            continue
        right = any(path[: len(suggestion)] == suggestion for path in verdict.accepted)
        if right or not any(suggestion[: len(path)] == path for path in verdict.accepted):
            yield Answer(task, row.control, row.version, annotated[task], right, product)


def _watch(services: Services, project: str, config: LabelConfig, answered: Iterable[str]) -> None:
    """Keep the floors of the project's versions, after an answer to suggestions of the versions `answered`.

    All answers are watched from the first version on, so a repetition changes nothing. Look-alikes promise nothing.
    """
    table = services.suggestions
    known = {promise.version for promise in table.promises(project)}
    for version in set(answered) - known:
        table.keep_promises(project, list(_promises(services, project, version)))
    promises = table.promises(project)
    versions = list(dict.fromkeys(promise.version for promise in promises))
    floors: dict[str, dict[str, float]] = {version: {} for version in versions}
    for control in sorted({config.present(promise.control) for promise in promises}):
        of_version = {promise.version: promise for promise in promises if config.present(promise.control) == control}
        names = {control, *(promise.control for promise in of_version.values())}
        watch, current = None, ""
        for version, score, right, blind in table.answered(project, list(of_version), *names):
            if version != current:
                promise, current = of_version[version], version
                begin = watch.following if watch else PromiseWatch
                watch = begin(promise.target, promise.threshold)
            assert watch is not None
            watch.update(score, right=right, blind=blind)
            if watch.floor:
                floors[version][of_version[version].control] = watch.floor
    for version in versions:
        _keep_floors(services, project, version, floors[version])


def _promises(services: Services, project: str, version: str) -> Iterator[Promise]:
    """Yield the promises of a version; none of look-alikes, nor of one that is gone or damaged."""
    try:
        model = services.registry.get(registry_name(project), version.removeprefix(MODEL_PREFIX))
    except (NotFoundError, DamagedError):
        return
    manifest = model.head_manifest
    for control, calibration in manifest.calibration.items():
        used = [calibration, *([manifest.fused[control]] if control in manifest.fused else [])]
        least = min((threshold for one in used for threshold in one.thresholds), default=math.inf)
        yield Promise(version, control, calibration.target_precision, least)


def _keep_floors(services: Services, project: str, version: str, floors: Mapping[str, float]) -> None:
    """Keep the floors of a version. What changes is logged, and suggestions that are stored elsewhere are withdrawn."""
    before = services.suggestions.floors(project, version)
    if floors == before:
        return
    services.suggestions.keep_floors(project, version, floors)
    for control, floor in floors.items():
        if floor != before.get(control):
            log.warning("project %s, %s, %s: %s", project, version, control, describe_floor(floor))
    for control in before.keys() - floors.keys():
        log.warning("project %s, %s, %s: corrected answers keep the promise after all", project, version, control)
    if services.projects.get(project).ml_backend is not None:
        services.jobs.enqueue(JobKind.PUSH, project, f"the thresholds of {version} have changed")


def describe_floor(floor: float) -> str:
    """Return in words what a version still suggests where its promise is broken."""
    then = (
        "nothing is suggested any more"
        if math.isinf(floor)
        else f"only those from a probability of {floor:g} on are shown"
    )
    return f"suggestions are no longer right often enough; {then}, until a new version is trained"


def _shown(
    record: AnnotationRecord, suggested: Iterable[StoredSuggestion], images: Mapping[str, frozenset[str]]
) -> dict[str, StoredSuggestion]:
    """Return by control the newest suggestion that the task showed: they are in the order of their times."""
    own = images.get(record.task_id, frozenset()) | {record.image_id}
    return {
        row.control: row
        for row in suggested
        if row.image_id in own and row.at <= record.created_at.timestamp() and not row.blind
    }
