"""How many suggestions annotators accepted, by model version: from the journal and the suggestions that are kept.

It needs nothing of Label Studio, which forgets the prediction of an annotation when the prediction is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.inference.pipeline import in_batches
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationRecord
from taxonomist.taxonomy.annotations import Annotation, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig

CHUNK = 500


@dataclass(frozen=True)
class Acceptance:
    """Of the `shown` suggestions that a person answered, `accepted` are in the answer: as suggested, or deeper."""

    shown: int = 0
    accepted: int = 0


def count_accepted(services: Services, project: str) -> dict[str, Acceptance]:
    """Return by model version, as Label Studio knows it, how many suggestions were accepted.

    An annotation answers, for each control, the newest suggestion that its task had when it was created. What the model
    made itself and what was skipped answers nothing. A project whose taxonomy is not known has no counts.
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
            suggested.setdefault(row.task_id, []).append(row)
        if not suggested:
            continue
        images = _other_images(services, project, source, suggested)
        for record in records:
            for version, is_accepted in _answers(record, config, suggested.get(record.task_id, []), images):
                known = counts.get(version, Acceptance())
                counts[version] = Acceptance(known.shown + 1, known.accepted + is_accepted)
    return counts


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
    own = images.get(record.task_id, frozenset()) | {record.image_id}
    shown = {  # by control the newest: they are in the order of their times
        row.control: row for row in suggested if row.image_id in own and row.at <= record.created_at.timestamp()
    }
    if not shown:
        return
    try:
        annotation: Annotation = parse_annotation(record.data, config, task_id=record.task_id)
    except BadRequestError:
        return
    if annotation.by_model or annotation.skipped:
        return
    for control, row in shown.items():
        paths = annotation.labels.get(control, ())
        yield row.version, any(path[: len(row.path)] == row.path for path in paths)
