"""What an action that labels many images would write: checked before a person confirms it. Nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from taxonomist.backend.label_studio.predictions import region_json
from taxonomist.backend.labelling.kept_content import person as annotator_of
from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ActionState, BulkAction, BulkItem, ItemState
from taxonomist.storage.journal import TaskRecord
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree import Tree

MOST_IMAGES = 500  # of one action: about a minute of Label Studio's time
SEVERAL_IMAGES = "Its task shows several images."
NO_TASK = "It has no task in Label Studio."


class LabelProblem(StrEnum):
    """Why a control does not take a path."""

    UNKNOWN = "unknown"
    NOT_A_LEAF = "not_a_leaf"


def label_problem(tree: Tree, path: TaxonomyPath) -> LabelProblem | None:
    """Return why a control does not take a path, None for one that it takes."""
    if path not in tree:
        return LabelProblem.UNKNOWN
    return LabelProblem.NOT_A_LEAF if tree.leafs_only and not tree.is_leaf[tree.index[path]] else None


def propose(
    services: Services,
    project: str,
    images: Iterable[str],
    labels: Mapping[str, TaxonomyPath],
    *,
    person: int,
    who: str,
) -> BulkAction:
    """Keep and return what labelling these images would write; `start` begins it.

    `labels` has a path for each control that is answered, `person` is the annotator's number in Label Studio, and `who`
    their e-mail address. Of an image with several tasks the oldest gets the label. What the person has labelled is left
    as it is; so is an image without a task in Label Studio, or in a task with others. Raises `BadRequestError` for a
    path that its control does not take, and for more than `MOST_IMAGES` images.
    """
    trees = {tree.control: tree for tree in services.label_config(project).trees}
    _check(trees, labels)
    wanted = list(dict.fromkeys(images))
    if not 0 < len(wanted) <= MOST_IMAGES:
        raise BadRequestError(f"{len(wanted)} images; 1 to {MOST_IMAGES} are labelled in one action.")
    source, items = services.projects.get(project).source, dict[int, BulkItem]()
    missing = 0
    for image in wanted:
        tasks = [task for task in services.journal.tasks(project, image, source=source) if task.task_id.isdecimal()]
        if tasks:
            task = min(tasks, key=lambda task: int(task.task_id))
            items.setdefault(int(task.task_id), _item(services, task, image, person))
        else:
            missing += 1
            items[-missing] = BulkItem(-missing, image, ItemState.FAILED, problem=NO_TASK)
    id = secrets.token_hex(8)
    action = BulkAction(
        id=id,
        project=project,
        person=person,
        who=who,
        at=datetime.now(UTC),
        labels=labels,
        result=[region_json(trees[control], path, of=id) for control, path in labels.items()],
        state=ActionState.PROPOSED,
        counts={},
    )
    services.bulk_labels.propose(action, list(items.values()))
    return services.bulk_labels.get(project, id) or action


def _item(services: Services, task: TaskRecord, image: str, person: int) -> BulkItem:
    number = int(task.task_id)
    if len(task.images) > 1:
        return BulkItem(number, image, ItemState.FAILED, problem=SEVERAL_IMAGES)
    records = services.journal.annotations(task.project, image, source=task.source)
    is_own = any(record.task_id == task.task_id and annotator_of(record.data) == str(person) for record in records)
    return BulkItem(number, image, ItemState.OWN if is_own else ItemState.WAITING)


def _check(trees: Mapping[str, Tree], labels: Mapping[str, TaxonomyPath]) -> None:
    if not labels:
        raise BadRequestError("No control has a path; give one for at least one control.")
    for control, path in labels.items():
        if control not in trees:
            raise BadRequestError(f'The labelling config has no control "{control}"; it has {", ".join(trees)}.')
        problem = label_problem(trees[control], path)
        if problem is LabelProblem.UNKNOWN:
            nearest = trees[control].nearest(path)
            mean = f', did you mean "{format_path(nearest)}"?' if nearest else "."
            raise BadRequestError(f'"{format_path(path)}" is not in the taxonomy "{control}"{mean}')
        if problem is LabelProblem.NOT_A_LEAF:
            raise BadRequestError(f'"{control}" takes leaves only, and "{format_path(path)}" has choices below it.')
