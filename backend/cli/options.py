"""Options that several commands have, and the services that they use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.completion import backbone_versions, model_versions, projects
from taxonomist.backend.labelling.decisions import decide_after_migration
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.numbers import is_number


def services_of(context: typer.Context) -> Services:
    """Return the services of this call. The first use opens the home, and migrates an older one."""
    root = context.find_root()
    if isinstance(root.obj, Settings):
        services = root.obj = Services(root.obj)
        root.call_on_close(services.close)
        # These change nothing, so that they migrate no home either.
        if root.invoked_subcommand not in {"status", "projects"} and services.open_existing_home():
            decide_after_migration(services)
    assert isinstance(root.obj, Services)
    return root.obj


def check_known(services: Services, project: str) -> None:
    """Raise `NotFoundError` for a project that has no record, no model and no image.

    A listing of such a project would be empty, as if all were well.
    """
    named = services.projects.exists(project) or registry_name(project) in services.registry.names()
    if not named and not services.catalog.count(project):
        known = ", ".join(record.project for record in services.projects)
        hint = f"Known projects: {known}." if known else "Run `taxonomist connect` or `taxonomist import` first."
        raise NotFoundError(f"Project {shorten(project)} is not known.", hint=hint)


def check_reachable(services: Services, project: str) -> None:
    """Raise `NotFoundError` for a project that is not known, unless the settings name a Label Studio that has it."""
    if not (is_number(project) and all(services.label_studio(project))):
        check_known(services, project)


def _named_or_only_project(context: typer.Context, project: str) -> str:
    """Return the project that was named, or the only one.

    Raises `NotFoundError` for one that is not known, and `ConfigError` where none is named; both name those that are.
    """
    if context.resilient_parsing:  # a shell completes the command line
        return project
    project = project or _only_project(context)
    check_known(services_of(context), project)
    return project


def _reachable_or_only_project(context: typer.Context, project: str) -> str:
    if context.resilient_parsing:
        return project
    project = project or _only_project(context)
    check_reachable(services_of(context), project)
    return project


def _only_project(context: typer.Context) -> str:
    known = [record.project for record in services_of(context).projects]
    if len(known) != 1:
        hint = (
            f"Known projects: {', '.join(known)}."
            if known
            else "Run `taxonomist import` or `taxonomist connect` first."
        )
        raise ConfigError("Which project? Give --project.", hint=hint)
    return known[0]


_HELP = "Number of the project in Label Studio, or the name given to an import; default: the only project."
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[
    str,
    typer.Option(
        callback=_named_or_only_project,
        autocompletion=projects,
        show_default=False,
        help=_HELP,
    ),
]
ReachableProject = Annotated[
    str, typer.Option(callback=_reachable_or_only_project, autocompletion=projects, show_default=False, help=_HELP)
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A version, as listed by `models list`.",
        autocompletion=model_versions,
    ),
]
BackboneArgument = Annotated[
    str,
    typer.Argument(
        help="A version, as listed by `backbone list`.",
        autocompletion=backbone_versions,
    ),
]
FormerPictures = Annotated[Path | None, typer.Option("--pictures", hidden=True, help="The former name of --prepared.")]
