"""A project whose taxonomy changes."""

from __future__ import annotations

from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.services import Services
from tests.small_world import CONFIG

WITHOUT_RED = CONFIG.replace('<Choice value="Red"/>', "")
SCARLET = CONFIG.replace('"Red"', '"Scarlet"')
WARMTH = CONFIG.replace('"Warm"', '"Warmth"')
SHADE = CONFIG.replace('name="colour"', 'name="shade"')
DEEPER = CONFIG.replace('<Choice value="Red"/>', '<Choice value="Bright"><Choice value="Red"/></Choice>')


def change(services: Services, config: str, project: str = "7") -> None:
    """Give the project another labelling config, as a webhook does, and decide as the worker does."""
    services.projects.update(project, label_config=config)
    decide_anew(services, project)


def accepted(services: Services, project: str = "7") -> dict[tuple[str, ...], int]:
    """Return the number of images by their accepted path."""
    counts: dict[tuple[str, ...], int] = {}
    for document in services.catalog.documents(project, labelled=True):
        for paths in document.projects[project].accepted.values():
            for path in paths:
                counts[tuple(path)] = counts.get(tuple(path), 0) + 1
    return counts
