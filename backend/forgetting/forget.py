"""Forgets a project or an image as planned.

Every step can be repeated, and the last trace goes last: a run that was killed is finished by the same command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from taxonomist.backend.forgetting.images import UnusedImages, erase_deleted, forget_images, leave_project
from taxonomist.backend.forgetting.plan import Plan, backups, check_jobs
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.project_use import alone_on
from taxonomist.progress import StepProgress
from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import ConflictError


def forget_project(
    services: Services, project: str, progress: StepProgress, *, first: Callable[[], None] = lambda: None
) -> None:
    """Forget a project, and the images that nothing else uses.

    First it is served and scheduled no more, then its images leave it, then what is left of it goes. `first` is called
    once nothing of it runs or can begin, before anything is removed. Raises `ConflictError` while it is trained or
    a job of it runs, also one that a command has begun, and `StorageError`.
    """
    withdrawal = services.journal.withdrawal
    with _no_training(services, project), alone_on(services.home, project):
        check_jobs(services, project)  # again: a job may have begun while a person was asked
        first()
        services.jobs.forget(project)
        services.journal.kept.forget_record(project)  # first: a record that is gone comes back from its copy
        services.projects.remove(project)
        progress("models", 0.1)
        services.registry.remove(registry_name(project))
        progress("journal", 0.2)
        withdrawal.withdraw_project(project, [document.id for document in services.catalog.documents(project)])
        progress("images", 0.3)
        dirty = services.journal.dirty(project)
        leave_project(services, project, dirty.removed)
        services.journal.done(project, dirty.removed, dirty.position)
        services.suggestions.delete(project=project)
        services.unfilled.forget(project)
        services.bulk_labels.forget(project)
        services.jobs.forget(project)
        progress("databases", 0.8)
        erase_deleted(services, rebuild=True)
        withdrawal.forget_project(project)
        erase_deleted(services)
    for lock in ("training", "announcement", "import"):
        (services.home / f"{lock}-{project}.lock").unlink(missing_ok=True)
    progress("done", 1.0)


def forget_image(services: Services, plan: Plan, progress: StepProgress) -> None:
    """Forget an image, in all projects. Raises `StorageError`."""
    assert plan.image is not None
    image, done = plan.image, []
    for project in plan.projects:
        services.journal.withdrawal.withdraw_image(project, image)
        dirty = services.journal.dirty(project)
        if image in dirty.removed:
            leave_project(services, project, [image])
            done.append((project, dirty.position))
        progress(f"project {project}", 0.5)
    document = services.catalog.get(image)
    if document is not None and not document.projects and not services.journal.withdrawal.used([image]):
        addresses = {document.uri_orig} if document.uri_orig else set()
        parts = {(project, image): part for project, part in document.former_parts.items()}
        forget_images(services, UnusedImages([image], addresses, parts))
    progress("databases", 0.8)
    erase_deleted(services, rebuild=True)
    for project, position in done:
        services.journal.done(project, [image], position)
    erase_deleted(services)
    progress("done", 1.0)


def delete_backups(services: Services) -> None:
    """Delete the folders with databases as they were before a migration. Raises `StorageError`."""
    for folder in backups(services):
        with storage_errors(folder):
            shutil.rmtree(folder)


@contextmanager
def _no_training(services: Services, project: str) -> Iterator[None]:
    """Hold the lock of the project's trainings. Raises `ConflictError` while one runs."""
    lock = FileLock(services.home / f"training-{project}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConflictError(f"Project {project} is being trained.", hint="Wait until the training ends.") from None
    try:
        yield
    finally:
        lock.release()
