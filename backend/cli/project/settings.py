"""The command `taxonomist settings`: the settings that differ by project."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from taxonomist.backend.cli.completion import setting_names
from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import print_json, print_line, print_table
from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.state.project_settings import FIELDS, origin_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `taxonomist settings --project 4` · `taxonomist settings --project 4 product_field=sku "
        "annotators=1` · `taxonomist settings --project 4 'product_field={product}_*.jpg'` · "
        "`taxonomist settings --project 4 annotators=` (the environment's value again)"
    )(settings)


def settings(
    context: typer.Context,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            autocompletion=setting_names,
            help="product_field: field of a task that names its product (sku), or a pattern of the file name "
            "({product}_*.jpg, {product}/*). annotators: number that must name a path. agreement: two_thirds, majority "
            "or dawid_skene. min_agreement: share of an image's annotators that must name a path. target: precision "
            "that suggestions must reach. promotion: auto or manual. order: what is labelled "
            "next, none (as Label Studio is set) or diverse.",
        ),
    ] = None,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Show the settings of one project and where each comes from, or change them. Others are set in the environment."""
    services = services_of(context)
    effects = change_settings(services, project, assignments) if assignments else ()
    choices, values = services.projects.get(project).settings, asdict(services.project_settings(project))
    rows = [(name, values[name], origin_of(choices, services.settings, name)) for name in FIELDS]
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    print_table(
        f"Settings of project {project}",
        ["setting", "value", "from"],
        [(name, f"{value:.4g}" if isinstance(value, float) else value, origin) for name, value, origin in rows],
    )
    for effect in effects:
        print_line(effect)
