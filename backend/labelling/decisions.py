"""Accepted labels in the catalogue, kept up to date with the annotations in the journal."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Literal

from taxonomist.backend.forgetting.images import erase_deleted, leave_project
from taxonomist.backend.labelling.acceptance import keep_answers
from taxonomist.backend.labelling.agreement.annotator_rates import keep_rates, lacks_rates, project_weights
from taxonomist.backend.labelling.image_decision import DocumentChange, ImageDecision, decide_image, store_decision
from taxonomist.backend.labelling.products import with_product
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.services import Services
from taxonomist.backend.state.isolation import work_alone
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_records import DecidedAnew
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.journal import Dirty, TaskRecord, Unknown, is_label_studio
from taxonomist.storage.kept.copies import KeptFile
from taxonomist.storage.set_aside import ItemKind, describe
from taxonomist.taxonomy.agreement import AgreementPolicy, Weights
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError
from taxonomist.taxonomy.label_config import LabelConfig

log = logging.getLogger(__name__)

_RULES = 3  # grows when the rules by which images are decided change, so that all are decided anew
CHUNK = 500  # images that are decided in one update of the catalogue


def decide_dirty(services: Services, project: str, limit: int) -> bool:
    """Decide the labels of up to `limit` images whose annotations changed; return False when there was none.

    An image without annotations loses its label. An image without a task leaves the project. Raises `ConfigError` when
    the project's labelling config has no taxonomy; the images then stay dirty, and those without a task leave all the
    same. Raises `StorageError`; when images cannot leave, such as while Azure is away, the others are decided first.
    """
    dirty = services.journal.dirty(project, limit)
    if not dirty.images and not dirty.removed:
        return False
    failed: Exception | None = None
    try:
        _leave(services, project, dirty)
    except Exception as error:  # they stay dirty, and the labels of others do not wait for them
        failed = error
        while not dirty.images and dirty.last:
            dirty = services.journal.dirty(project, limit, after=dirty.last)
    if images := sorted(dirty.images):
        try:
            update_labels(services, project, images)
        except ConfigError:
            leave_removed(services, project)
            raise
        services.journal.done(project, images, dirty.position)
    if failed is not None:
        raise failed
    return True


def leave_removed(services: Services, project: str) -> None:
    """Take the images out of the project that have no task any more. This needs no labelling config."""
    dirty = services.journal.dirty(project, CHUNK)
    while dirty.last:
        _leave(services, project, dirty)
        dirty = services.journal.dirty(project, CHUNK, after=dirty.last)


def _leave(services: Services, project: str, dirty: Dirty) -> None:
    """Take the images out of the project that have no task any more. Those that nothing else uses are forgotten."""
    forgotten = 0

    def leave(images: Sequence[str]) -> None:
        nonlocal forgotten
        forgotten += leave_project(services, project, images)
        services.journal.set_aside.clear(ItemKind.IMAGE, project, images)

    if dirty.removed:
        services.projects.get(project)  # a record that cannot be read is no fault of the images
        work_alone(sorted(dirty.removed), leave, partial(_set_aside, services, project))
        services.journal.done(project, dirty.removed, dirty.position)
        if forgotten:
            erase_deleted(services)


def decide_all_dirty(services: Services, project: str, on_step: Callable[[], None] = lambda: None) -> None:
    """Fold the journal, then decide the labels of every image of the project whose annotations changed.

    `on_step` is called while there is progress.
    """
    services.journal.fold()
    while decide_dirty(services, project, CHUNK):
        on_step()


def decide_after_migration(services: Services) -> None:
    """Decide the labels of the images that a migration of the home has moved, as far as their projects are known.

    The worker decides the others, once their labelling config is known.
    """
    for project in services.journal.dirty_projects():
        try:
            decide_all_dirty(services, project)
        except ConfigError as error:
            log.warning("project %s: labels wait to be decided: %s", project, error)


def decide_anew(
    services: Services, project: str, on_step: Callable[[], None] = lambda: None, *, learn: bool = False
) -> None:
    """Decide every image again if the taxonomy or the rule of agreement changed since the last decision.

    With `learn`, what the annotators weigh is learned first, where they are weighed; without it, only where it is not
    known. How many images have another label, and labels whose node is gone, are logged, and the former is kept in the
    project's record. `on_step` is called while there is progress.

    Raises `ConfigError` when the project's labelling config has no taxonomy.
    """
    if learn or lacks_rates(services, project):
        keep_rates(services, project, on_step)
    rule = _rule(services, project)  # of now: what changes meanwhile is decided by the next call
    if services.projects.get(project).decided_with not in {None, rule}:
        # An image that the journal does not know keeps its label: the journal was lost and made anew.
        known = services.journal.withdrawal.images(project)
        images = [document.id for document in services.catalog.documents(project) if document.id in known]
        changed = 0
        for start in range(0, len(images), CHUNK):  # so that a large project needs no more memory
            on_step()
            changed += update_labels(services, project, images[start : start + CHUNK])
        services.projects.update(project, decided_with=rule)
        if changed:
            done = DecidedAnew(at=datetime.now(UTC), images=len(images), changed=changed)
            services.projects.update(project, decided_anew=done)
        log.log(
            logging.WARNING if changed else logging.INFO,
            "project %s: all labels were decided again: %d of %d images have another label",
            project,
            changed,
            len(images),
        )
        if held := training_hold(services, project):
            log.warning("%s", held)


def update_labels(services: Services, project: str, images: Collection[str]) -> int:
    """Decide the labels of these images, write them to the catalogue, and return how many have another label.

    The project's record counts the images whose label differs from that of the last training. Images that were never
    read are enqueued for embedding. An image that cannot be decided is set aside and keeps its label. Raises
    `ConfigError` when the project's labelling config has no taxonomy.
    """
    # What changes while the labels are decided is decided by the next call of `decide_anew`.
    rule = None if services.projects.get(project).decided_with else _rule(services, project)
    config = services.label_config(project)
    deciding = _Deciding(
        config,
        services.agreement(project),
        project_weights(services, project, config),
        services.project_settings(project).product_field,
    )
    found = _Changes()
    try:
        work_alone(
            list(images),
            lambda some: found.add(_write_labels(services, project, deciding, some)),
            partial(_set_aside, services, project),
        )
    finally:  # what was written counts, also when the store fails before the end
        services.projects.count_changed_labels(project, changes=found.changes, waiting=found.waiting)
    if found.has_unanswered:
        services.projects.update(project, has_unanswered=True)
    if rule is not None:
        services.projects.change(project, lambda record: {"decided_with": record.decided_with or rule})
    if found.has_new_files:
        services.jobs.enqueue(JobKind.EMBED, project, "new images")
    return found.changes


@dataclass(frozen=True)
class _Deciding:
    """What decides the labels of a project besides annotations and tasks."""

    config: LabelConfig
    policy: AgreementPolicy
    weights: Mapping[str, Weights]  # by control, where annotators are weighed
    product_field: str | None


@dataclass
class _Changes:
    """What decisions changed: how many labels, how many more wait for a training, and what else is to be done."""

    changes: int = 0
    waiting: int = 0
    has_unanswered: bool = False
    has_new_files: bool = False

    def add(self, other: _Changes) -> None:
        """Add the changes of other images."""
        self.changes += other.changes
        self.waiting += other.waiting
        self.has_unanswered |= other.has_unanswered
        self.has_new_files |= other.has_new_files


def _set_aside(services: Services, project: str, image: str, error: Exception) -> None:
    log.error(
        "project %s: image %s is set aside, since its label cannot be decided: %s",
        project,
        image,
        describe(error),
        exc_info=None if isinstance(error, TaxonomistError) else error,
    )
    services.journal.set_aside.add(ItemKind.IMAGE, project, image, describe(error))


def _write_labels(services: Services, project: str, deciding: _Deciding, images: Sequence[str]) -> _Changes:
    """Decide the labels of these images, write them to the catalogue, and return what changed."""
    before: dict[str, ImageDocument] = {}
    labels: dict[str, dict[str, list[list[str]]]] = {}
    unknown: dict[str, Unknown] = {}
    changes: dict[str, DocumentChange] = {}
    decisions: dict[str, ImageDecision] = {}
    tasks_of: dict[str, list[TaskRecord]] = {}
    has_unanswered = False
    parts = services.journal.kept.parts(project, images)
    files = services.journal.kept.files(images)
    for image in images:
        records = list(services.journal.annotations(project, image))
        tasks = sorted(services.journal.tasks(project, image), key=lambda task: not is_label_studio(task.source))
        decision = decide_image(records, deciding.config, deciding.policy, deciding.weights)
        if tasks and not records:
            decision = replace(decision, uri=tasks[0].uri, task_id=tasks[0].task_id)
        decisions[image], tasks_of[image] = decision, tasks
        labels[image] = decision.accepted
        unknown[image] = decision.unknown
        has_unanswered |= bool(decision.unanswered and not decision.accepted)
        store = store_decision(project, decision)
        named = _name_product(project, deciding.product_field, tasks)
        changes[image] = _keep_original(
            before, _all(store, named, _put_back(project, parts.get(image), files.get(image)))
        )

    def product_of(image: str) -> str | None:
        uri = decisions[image].uri
        return with_product(ProjectLabels(uri=uri), deciding.product_field, tasks_of[image]).group

    keep_answers(
        services, project, deciding.config, decisions, product_of
    )  # first: what fails is done again with the whole image
    services.catalog.update_many(changes)
    services.journal.unknown_paths.keep(project, unknown)
    services.journal.set_aside.clear(ItemKind.IMAGE, project, images)
    known = {image: before[image].projects.get(project) or ProjectLabels(uri="") for image in images}
    return _Changes(
        changes=sum(labels[image] != known[image].accepted for image in images),
        waiting=sum(labels[image] != known[image].trained for image in images)
        - sum(known[image].accepted != known[image].trained for image in images),
        has_unanswered=has_unanswered,
        has_new_files=any(document.file_hash is None for document in before.values()),
    )


def _rule(services: Services, project: str) -> str:
    """Return a fingerprint of what labels depend on besides annotations and tasks: the taxonomy with the nodes that a
    person renamed, the rule of agreement, and what names the products."""
    config = services.label_config(project)
    rule = repr((_RULES, services.agreement(project), [tree.fingerprint for tree in config.trees]))
    if renames := [decision for decision in services.projects.get(project).label_decisions if decision.new is not None]:
        rule += repr(sorted((d.control, d.old, d.new, d.new_control or "") for d in renames))
    if weights := project_weights(services, project, config):
        rule += repr({control: weight.rates for control, weight in sorted(weights.items())})
    if config.former_controls:
        rule += repr(sorted(config.former_controls))
    if len(config.images) > 1:
        rule += repr([(tree.to_name, config.images[tree.to_name]) for tree in config.trees])
    if product_field := services.project_settings(project).product_field:
        rule += product_field
    return hashlib.sha256(rule.encode()).hexdigest()


def _name_product(project: str, product_field: str | None, tasks: Sequence[TaskRecord]) -> DocumentChange:
    """Return the change that writes the image's product into its document."""

    def change(document: ImageDocument) -> ImageDocument:
        return document.in_project(project, with_product(document.projects[project], product_field, tasks))

    return change


def _put_back(project: str, part: Literal["test", "train"] | None, file: KeptFile | None) -> DocumentChange:
    """Return the change that puts an image that was forgotten, and came back, into its part again, and a new document
    of a catalogue that was damaged has what is known of the file."""

    def change(document: ImageDocument) -> ImageDocument:
        if file is not None and document.file_hash is None:
            about = {"resolution_width": file.width, "resolution_height": file.height}
            document = document.model_copy(update={"file_hash": file.file_hash, **about})
        labels = document.projects[project]
        if part is None or labels.part is not None:
            return document
        return document.in_project(project, labels.model_copy(update={"part": part}))

    return change


def _all(*changes: DocumentChange) -> DocumentChange:
    return lambda document: reduce(lambda changed, change: change(changed), changes, document)


def _keep_original(before: dict[str, ImageDocument], change: DocumentChange) -> DocumentChange:
    """Return the change, which also stores the document as it was in `before`, so that it is not read a second time.

    The catalogue calls a change again after a conflict; `before` then has the document of the last call.
    """

    def change_and_keep(document: ImageDocument) -> ImageDocument:
        before[document.id] = document
        return change(document)

    return change_and_keep
