"""The counts of a project that take long with many images, or with a catalogue in Azure: they may be some seconds old.

Each is as exact as its store in a project of fewer than `MANY` images on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import AnswerCount
from taxonomist.storage.catalog import Facet
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.paths import TaxonomyPath


def states_of(services: Services, project: str) -> Mapping[str, int]:
    """Return what `Catalog.count_states` does."""
    return services.kept_counts.get(("states", project), 0, lambda: services.catalog.count_states(project))


def nodes_of(services: Services, project: str) -> Mapping[tuple[str, TaxonomyPath], int]:
    """Return what `Catalog.count_nodes` does."""
    return services.kept_counts.get(("nodes", project), 0, lambda: services.catalog.count_nodes(project))


def oldest_of(services: Services, project: str, facet: Facet) -> datetime | None:
    """Return what `Catalog.oldest` does."""
    return services.kept_counts.get(
        ("oldest", project, facet), _images(services, project), lambda: services.catalog.oldest(project, facet)
    )


def answers_of(services: Services, project: str, version: str) -> tuple[AnswerCount, ...]:
    """Return what `SuggestionTable.answer_counts` does."""
    return services.kept_counts.get(
        ("answers", project, version),
        _images(services, project),
        lambda: tuple(services.suggestions.answer_counts(project, version)),
    )


def judged_of(services: Services, project: str, version: str) -> tuple[int, int]:
    """Return what `SuggestionTable.judged` does."""
    return services.kept_counts.get(
        ("judged", project, version),
        _images(services, project),
        lambda: services.suggestions.judged(project, version),
    )


def suggested_of(services: Services, project: str, version: str) -> int:
    """Return what `SuggestionTable.count_images` does."""
    return services.kept_counts.get(
        ("suggested", project, version),
        _images(services, project),
        lambda: services.suggestions.count_images(project, version),
    )


def _images(services: Services, project: str) -> int:
    try:
        return sum(states_of(services, project).values())
    except TaxonomistError:  # who shows the images reports it
        return 0
