"""Commands about Cosmos DB: cosmos install."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import print_json, say
from taxonomist.backend.extras import require


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cosmos = typer.Typer(help="The catalogue in Azure Cosmos DB.", no_args_is_help=True)
    cosmos.command(epilog="Example: `TAXONOMIST_COSMOS_CONNECTION_STRING=… taxonomist cosmos install`")(install)
    app.add_typer(cosmos, name="cosmos")


def install(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Make the database, its containers and our query function where they are missing. It may be repeated."""
    require("azure")
    from taxonomist.backend.azure.accounts import install_cosmos  # noqa: PLC0415 - the extra azure

    done = install_cosmos(services_of(context).settings)
    if as_json:
        print_json(done)
        return
    for line in done:
        say(line)
