"""The steps after a promotion: announce the version to Label Studio and predict the open tasks again."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taxonomist.backend.connection.announce import announce_version
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.taxonomy.errors import TaxonomistError

log = logging.getLogger(__name__)


def after_promotion(services: Services, project: str) -> None:
    """Announce the served version to Label Studio, and enqueue new predictions of the open tasks.

    A Label Studio that cannot be reached affects neither the promotion nor the training; `doctor` reports it.
    """
    url, token = services.label_studio(project)
    version = services.registry.champion(registry_name(project))
    if url is None or token is None or version is None:
        return
    try:
        announce_version(services, project)
    except TaxonomistError as error:
        log.error("project %s: the new version could not be announced to Label Studio: %s", project, error)
    services.jobs.enqueue(JobKind.PUSH, project, f"{model_version_name(version)} is served now")


def after_change(services: Services, before: Mapping[str, str]) -> list[str]:
    """Call `after_promotion` for every project whose champion differs from `before`; return those projects."""
    now = services.registry.champions()
    names = {registry_name(record.project): record.project for record in services.projects}
    moved = [project for name, project in names.items() if now.get(name) != before.get(name)]
    for project in moved:
        after_promotion(services, project)
    return moved
