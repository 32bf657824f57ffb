"""Changes of the settings of one project, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable

from taxonomist.backend.labelling.agreement.changed_labels import label_changes
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_records import LOST_CHOICES
from taxonomist.backend.state.project_settings import ProjectChoices, changed_choices, effective_settings
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.numbers import is_number

_AGREEMENT = ("annotators", "agreement", "min_agreement")
_DECIDES_ANEW = ("product_field", *_AGREEMENT)


def change_settings(services: Services, project: str, assignments: Iterable[str]) -> list[str]:
    """Keep assignments such as `annotators=3` in the project's record; return what follows from them, in lines.

    Where annotators must agree in another way, they say how many images get another label; the worker decides these.
    Where another field names the products, a pass over Label Studio fetches it from the tasks. Raises `ConfigError` for
    a wrong assignment and `NotFoundError` for a project that is not known; nothing is changed then.
    """
    known = [record.project for record in services.projects]
    if project not in known:
        raise NotFoundError(
            f"Project {project} is not known.",
            hint=f"Known projects: {', '.join(known)}."
            if known
            else "Run `taxonomist connect` or `taxonomist import`.",
        )
    before = services.projects.get(project).settings
    wanted = list(assignments)
    relabelled = _relabelled(services, project, before, changed_choices(before, wanted))
    after = services.projects.change(
        project,
        lambda record: {
            "settings": changed_choices(record.settings, wanted),
            "lost": tuple(name for name in record.lost if name != LOST_CHOICES),
        },
    ).settings
    changed = {name for name, value in after if value != getattr(before, name)}
    effects = []
    if changed.intersection(_DECIDES_ANEW):
        effects.append("The worker decides the labels of all images again; the next training uses them.")
        effects += relabelled
    if "product_field" in changed:
        if is_number(project) and all(services.label_studio(project)):
            services.jobs.enqueue(JobKind.SYNC, project, "another field names the products")
        effects.append("The next training draws the split again where images of one product are in different parts.")
    if changed & {"target", "promise"}:
        effects.append("It counts from the next training on.")
    if "order" in changed:
        if services.projects.get(project).ml_backend is not None:
            services.jobs.enqueue(JobKind.PUSH, project, "the order of labelling has changed")
        effects.append(
            "The worker gives each open task a place. In Label Studio, set the task sampling to Uncertainty sampling."
            if after.order == "diverse"
            else "The scores of predictions are probabilities again from the next version on."
        )
    return effects


def _relabelled(services: Services, project: str, before: ProjectChoices, after: ProjectChoices) -> list[str]:
    """Return how many images get another label, in at most one line; call it before the worker can know."""
    if all(getattr(before, name) == getattr(after, name) for name in _AGREEMENT):
        return []
    try:
        found = label_changes(services, project, effective_settings(after, services.settings))
    except ConfigError:
        return []  # without a taxonomy there is no label
    return [
        f"{found.changed} of {found.images} images get another label." if found.images else "No image has a label yet."
    ]
