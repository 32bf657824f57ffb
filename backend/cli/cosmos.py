"""Commands about Cosmos DB: cosmos install."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import print_json, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cosmos = typer.Typer(help="The catalogue in Azure Cosmos DB.", no_args_is_help=True)
    cosmos.command(epilog="Example: `TAXONOMIST_COSMOS_CONNECTION_STRING=… taxonomist cosmos install`")(install)
    app.add_typer(cosmos, name="cosmos")


def install(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Make the database, its containers and our query function where they are missing. It may be repeated."""
    from taxonomist.backend.azure.accounts import cosmos_access, retry_policy
    from taxonomist.storage.catalog.cosmos_install import install as install_into

    settings = services_of(context).settings
    done = install_into(cosmos_access(settings), retry_policy(settings))
    if as_json:
        print_json(done)
        return
    for line in done:
        say(line)
