"""`taxonomist doctor`: checks of what commonly breaks, each with its fix as a command or a setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taxonomist.backend.connection.doctor import (
    agreement,
    label_studio,
    labels,
    machine,
    model,
    network,
    one_address,
    shared_images,
)
from taxonomist.backend.connection.doctor.result import Check, Status, failed, failure, guarded, warned
from taxonomist.backend.extras import require
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import what_to_give_again
from taxonomist.taxonomy.errors import LabelStudioError, TaxonomistError
from taxonomist.taxonomy.numbers import is_number

__all__ = ["Check", "Status", "run_checks"]


def run_checks(services: Services, project: str | None = None) -> list[Check]:
    """Return the checks of this machine, then those of one project, or of all known projects.

    Nothing is repaired and nothing is raised: an error becomes a failed check with its reason.
    """
    return list(_checks(services, project))


def _checks(services: Services, project: str | None) -> Iterator[Check]:
    damaged = _damaged_records(services)
    known = [project] if project else [record.project for record in services.projects]
    known = [name for name in known if name not in damaged]
    called = not known or not all(_is_imported_only(services, name) for name in known)
    yield from machine.checks(services, called=called)
    yield from guarded("network", network.checks(services))
    yield from guarded("page address", one_address.checks(services, known))
    yield from guarded("Azure", _azure(services))
    for name, error in damaged.items():
        if project in {None, name}:
            yield failure(f"record of project {name}", error)
    yield from guarded("records", _lost(services, known))
    yield from guarded("set aside", _set_aside(services, project))
    if not known and not damaged:
        yield warned(
            "project",
            "no project is connected yet",
            "taxonomist connect --url http://localhost:8080 --api-key … --project 4",
        )
    for name in known:
        prefix = "" if project else f"project {name}: "
        yield from (check.named(prefix + check.name) for check in _project(services, name))


def _set_aside(services: Services, project: str | None) -> Iterator[Check]:
    """Yield what could not be processed, for one project or for all."""
    items = services.journal.set_aside.items(project)
    for name in sorted({item.project for item in items}):
        of_project = [item for item in items if item.project == name]
        shown = "; ".join(f"{item.kind} {item.key}: {item.reason}" for item in of_project[:3])
        more = f"; and {len(of_project) - 3} more" if len(of_project) > 3 else ""
        yield warned(
            f"set aside of project {name}" if name else "set aside",
            f"{shown}{more}",
            f"taxonomist retry{f' --project {name}' if name else ''}, after the cause is gone",
        )


def _damaged_records(services: Services) -> dict[str, TaxonomistError]:
    try:
        return services.projects.damaged()
    except TaxonomistError:  # the home folder cannot be used, which the checks of the machine report
        return {}


def _azure(services: Services) -> Iterator[Check]:
    settings = services.settings
    cosmos = settings.cosmos_connection_string or settings.cosmos_endpoint
    if not (cosmos or settings.blob_connection_string or settings.blob_account_url):
        return
    require("azure")
    from taxonomist.backend.connection.doctor import azure  # noqa: PLC0415 - the extra azure

    yield from azure.checks(services)


def _lost(services: Services, projects: Iterable[str]) -> Iterator[Check]:
    for project in projects:
        if lost := what_to_give_again(services.projects.get(project)):
            yield warned(f"record of project {project}", lost.partition(". ")[0], lost.partition(". ")[2])


def _project(services: Services, project: str) -> Iterator[Check]:
    if not _is_imported_only(services, project):  # Label Studio does not know the others
        yield from guarded("Label Studio", _connected(services, project))
    yield from guarded("model", model.checks(services, project))
    yield from guarded("labels", labels.checks(services, project))
    yield from guarded("images", shared_images.checks(services, project))
    yield from guarded("agreement", agreement.checks(services, project))


def _is_imported_only(services: Services, project: str) -> bool:
    """Return whether a project has only images of imported files, so that no Label Studio calls the server for it."""
    if not is_number(project):
        return True
    record = services.projects.get(project)
    is_known = any(services.label_studio(project)) or record.created or record.ml_backend or record.announced
    try:
        return not is_known and services.catalog.count(project) > 0
    except TaxonomistError:  # the check of the catalogue reports it
        return False


def _connected(services: Services, project: str) -> Iterator[Check]:
    url, token = services.label_studio(project)
    connect = f"taxonomist connect --url … --api-key … --project {project}"
    if url is None or token is None:
        yield failed("Label Studio", "its address or token is not known", connect)
        return
    try:
        client = LabelStudioClient(url, token, fallback=services.other_token(project))
    except LabelStudioError as error:
        yield failed("token", error.args[0], error.hint or connect)
        return
    with client:
        yield from label_studio.checks(services, project, client)
