"""The command `taxonomist retry`."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.completion import projects
from taxonomist.backend.cli.options import Json, check_known, services_of
from taxonomist.backend.cli.output import print_json, print_line
from taxonomist.backend.worker.trying_again import try_again
from taxonomist.storage.set_aside import ItemKind


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: `taxonomist retry` · `taxonomist retry --project 4 --json`")(retry)


def retry(
    context: typer.Context,
    project: Annotated[
        str | None,
        typer.Option(
            help="Number or name of the project; default: all projects.",
            autocompletion=projects,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try again what could not be processed and was set aside; `taxonomist status` shows it with its reasons."""
    services = services_of(context)
    if project is not None:
        check_known(services, project)
    found = try_again(services, services.journal.set_aside.retry(project))
    if as_json:
        print_json({f"{kind}s": found[kind] for kind in ItemKind})
    elif found:
        kinds = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in sorted(found.items()))
        print_line(f"The worker tries again: {kinds}.")
    else:
        print_line("Nothing is set aside.")
