"""Makes journal and catalogue know the same images: one that is new, since it was damaged, gets everything again."""

from __future__ import annotations

import logging

from taxonomist.backend.prediction.labelling_order import has_order, store_draws
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.project_records import lost_annotations, of_annotations
from taxonomist.inference.pipeline import in_batches
from taxonomist.storage.kept.copies import KeptFile
from taxonomist.training.heads.data.trained_on import parts_of

log = logging.getLogger(__name__)


def differs_from_journal(services: Services, project: str) -> bool:
    """Return whether the catalogue may lack images of the journal, or the journal what the catalogue has of them.

    A sound catalogue is only asked for a number, since a list costs Azure's request units for each document. Images
    that were never read have no file in the journal; while a project has one, its documents are listed. Raises
    `StorageError`.
    """
    decided = services.journal.withdrawal.decided(project)
    if services.catalog.count(project) < len(decided):
        return True
    return any(len(services.journal.kept.files(some)) < len(some) for some in in_batches(decided, 500))


def begin_new_journal(services: Services) -> None:
    """Keep in a journal that was made anew what the catalogue has, and name in the records whose annotations are lost.

    Raises `StorageError`.
    """
    journaled = set(services.journal.withdrawal.projects())
    for record in services.projects:
        project = record.project
        if record.decided_with is None or project in journaled or of_annotations(record.lost):
            continue
        if not services.catalog.count(project):
            continue
        compare_with_journal(services, project)
        if has_order(services, project):
            store_draws(services, project, services.catalog.documents(project), by_order=True)
        sources = dict.fromkeys([*record.imports, *([record.source] if record.created else [])])
        lost = tuple(map(lost_annotations, sources))
        services.projects.update(project, lost=(*record.lost, *lost))
        log.error("project %s: the journal is new; labels stay, give again: %s", project, ", ".join(lost))


def compare_with_journal(services: Services, project: str) -> None:
    """Let the images of a project be decided that the catalogue lacks, and keep in the journal what it lacks.

    A catalogue that is made anew has nothing of the journal, or only what came since. The journal has no file hashes
    and parts from before the releases that keep them there: those of the catalogue are added, and where that lacks the
    images, the parts with which the newest version of the project was trained. Raises `StorageError`.
    """
    journal, known = services.journal, set[str]()
    for documents in in_batches(services.catalog.documents(project), 500):
        # A suggestion makes a document, too, which has no decision.
        known |= {document.id for document in documents if document.projects[project].updated_at is not None}
        parts = {document.id: part for document in documents if (part := document.projects[project].part)}
        journal.kept.keep_parts(project, parts, known_stay=True)
        journal.kept.keep_files(
            {
                document.id: KeptFile(document.file_hash, document.resolution_width, document.resolution_height)
                for document in documents
                if document.file_hash is not None
            }
        )
    if lost := journal.withdrawal.images(project) - known:
        trained = parts_of(services.registry, registry_name(project))
        parts = {image: part for image, part in trained.items() if image in lost}
        journal.kept.keep_parts(project, parts, known_stay=True)
        journal.withdrawal.decide_again(project, journal.withdrawal.decided(project) - known)
