"""The command `taxonomist worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.options import services_of
from taxonomist.backend.worker.worker import Worker


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `taxonomist worker`, beside a `taxonomist serve --no-worker`")(worker)


def worker(
    context: typer.Context,
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="Exit when this process is no longer the parent.")
    ] = None,
    beat: Annotated[
        int | None, typer.Option(hidden=True, help="File descriptor to write to while there is progress.")
    ] = None,
) -> None:
    """Run the worker alone: it decides labels, trains, embeds and writes predictions."""
    Worker(services_of(context), parent=parent, beat=beat).run()
