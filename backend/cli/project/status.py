"""The command `taxonomist status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import print_json, print_line
from taxonomist.backend.status import collect_status, status_lines


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: `taxonomist status` · `taxonomist status --project 4 --json`")(status)


def status(
    context: typer.Context,
    project: Annotated[
        str | None, typer.Option(help="Number or name of the project; default: all known projects.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what was taken and what was not, what waits for a person, and which model is served. Nothing is changed."""
    found = collect_status(services_of(context), project)
    if as_json:
        print_json(asdict(found))
        return
    for line in status_lines(found):
        print_line(line)
