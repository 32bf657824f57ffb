"""Finishes a promotion whose training was killed, or failed, after its version was published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.retraining.announce_promotion import after_promotion
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.progress import StepProgress
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError
from taxonomist.training.heads.promotion.unfinished import unfinished_promotion

log = logging.getLogger(__name__)

_WAIT_S = 10.0


def training_lock(services: Services, project: str) -> FileLock:
    """Return the lock that a training of the project holds, from its labels to its promotion."""
    services.settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(services.settings.home / f"training-{project}.lock")


@contextmanager
def training_turn(services: Services, project: str, progress: StepProgress) -> Iterator[None]:
    """Hold `training_lock`. The wait for another process is progress, since a worker that makes none is replaced."""
    lock = training_lock(services, project)
    while True:
        try:
            lock.acquire(timeout=_WAIT_S)
            break
        except Timeout:
            progress("waiting for another training of the project", 0.0)
    try:
        yield
    finally:
        lock.release()


def finish_promotion(
    services: Services, project: str, on_step: Callable[[], None] = lambda: None
) -> ModelVersion | None:
    """Promote the newest version if it won its comparison and was not promoted; return it, None when there is none.

    A version that a person took back, or another one in its place, stays as it is; so does one whose project waits for
    a person, or whose backbone is not served any more. Call it with the training lock. `on_step` is called while labels
    are decided. Raises `ConfigError` when the project's labelling config has no taxonomy.
    """
    registry, name = services.registry, registry_name(project)
    version = unfinished_promotion(registry, name)
    if version is None or services.project_settings(project).promotion == "manual":
        return None
    decide_all_dirty(services, project, on_step)
    decide_anew(services, project, on_step)  # what waits for a person is known then
    if version.head_manifest.backbone != registry.champion(BACKBONE) or training_hold(services, project):
        return None
    champion = registry.champion(name)
    if unfinished_promotion(registry, name) is None:
        return None  # a person has promoted or taken back a version meanwhile
    try:
        registry.promote_together({name: version.version}, instead_of={name: champion})
    except (ConflictError, DamagedError, NotFoundError) as error:
        log.warning("project %s: %s is not promoted: %s", project, version.version, error)
        return None
    log.warning(
        "project %s: %s was published and not promoted; it is now", project, model_version_name(version.version)
    )
    return version


def finish_promotions(services: Services, on_step: Callable[[], None] = lambda: None) -> None:
    """Finish the promotions of all projects that are not being trained, and announce them. What fails is set aside."""
    for record in services.projects:
        with services.isolation.of(record.project, "promotions"):
            try:
                with training_lock(services, record.project).acquire(timeout=0):
                    promoted = finish_promotion(services, record.project, on_step)
                if promoted:
                    after_promotion(services, record.project)
            except Timeout:
                log.info("project %s is being trained", record.project)
