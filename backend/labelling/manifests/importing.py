"""Imports a manifest into a project: the project follows the file, which is taken whole or not at all.

A manifest becomes the same events as webhooks, so agreement and retraining work alike. Its source name says which
images and labels it may change: those that the same source named before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew, leave_removed
from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.manifests.difference import SourceImage
from taxonomist.backend.labelling.manifests.events import EventWriter
from taxonomist.backend.labelling.manifests.plan import ImportPlan, ManifestOptions, make_plan
from taxonomist.backend.labelling.manifests.summary import import_result
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id

CHUNK = 500  # images whose events are recorded together


def import_manifest(
    services: Services,
    manifest: Path,
    project: str,
    *,
    images: Path | Sequence[Path] | None = None,
    options: ManifestOptions | None = None,
    progress: CountProgress = ignore_counts,
) -> ImportResult:
    """Import a manifest into a project, which then follows it; return what became of its rows and what changed.

    Everything is checked before anything is stored. Raises `ConfigError` for rows that cannot be taken, and when more
    than a tenth of the source's labels would go.
    """
    options = options or ManifestOptions()
    folders = [images] if isinstance(images, Path) else images or ()
    if options.dry_run:
        return import_result(services, make_plan(services, manifest, project, folders, options), dry_run=True)
    record = services.projects.get(project)  # checks the name
    with FileLock(services.home / f"import-{record.project}.lock"):  # a plan is true as long as no other is stored
        plan = make_plan(services, manifest, project, folders, options)
        _store(services, plan, progress)
    return import_result(services, plan, dry_run=False)


def _store(services: Services, plan: ImportPlan, progress: CountProgress) -> None:
    """Store the labelling config and the folders, then the events and the products, and decide the labels."""
    project = plan.project
    config_changed = services.projects.get(project).label_config != plan.label_config
    services.projects.update(project, label_config=plan.label_config, image_folders=plan.folders)
    difference = plan.stored
    touched = list(
        dict.fromkeys(
            [
                *difference.new_images,
                *difference.products,
                *(address for address, _ in (*difference.new, *difference.changed)),
                *(address for address, _ in (*difference.emptied, *difference.removed)),
                *difference.removed_images,
            ]
        )
    )
    writer = EventWriter(plan, services.journal.position() if touched else 0, datetime.now(UTC))
    for start in range(0, len(touched), CHUNK):
        chunk = touched[start : start + CHUNK]
        services.journal.record([event for address in chunk for event in writer.events(address)])
        services.catalog.update_many(
            {image_id(address): _with_product(plan, address) for address in chunk if address in plan.now}
        )
        if plan.label_config:
            decide_all_dirty(services, project)  # after each chunk, so that the number of dirty images stays bounded
        progress(start + len(chunk), len(touched))
    if not plan.label_config:  # then there are no labels to decide
        services.journal.fold()
        leave_removed(services, project)
        return
    decide_all_dirty(services, project)
    if config_changed:
        decide_anew(services, project)


def _with_product(plan: ImportPlan, address: str) -> Callable[[ImageDocument], ImageDocument]:
    """Return the change that adds an image to the project, with its product; what other sources say of it stays."""
    product, former = plan.now[address].product, plan.state.own.get(address, SourceImage()).product

    def change(document: ImageDocument) -> ImageDocument:
        labels = document.projects.get(plan.project) or ProjectLabels(uri=address)
        if product:
            labels = labels.model_copy(update={"group": product, "group_by": None})
        elif labels.group_by is None and labels.group == former:
            labels = labels.model_copy(update={"group": None})
        return document.model_copy(update={"uri_orig": document.uri_orig or address}).in_project(plan.project, labels)

    return change
