"""The commands that run the backend: `taxonomist serve` and `taxonomist worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.options import services_of
from taxonomist.backend.cli.output import print_line
from taxonomist.backend.settings import load_settings
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.backend.web.start_server import become_server
from taxonomist.backend.worker.worker import Worker


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: `taxonomist serve` · `TAXONOMIST_PASSWORD=… taxonomist serve --host 0.0.0.0`")(serve)
    app.command(epilog="Example: `taxonomist worker`, beside a `taxonomist serve --no-worker`")(worker)


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (TAXONOMIST_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (TAXONOMIST_PORT).")] = None,
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run the worker, too.")] = True,
) -> None:
    """Run the server that Label Studio calls, with the worker beside it."""
    options = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = load_settings(**{**services_of(context).settings.model_dump(exclude_unset=True), **options})
    check_exposure(settings)
    print_line(f"taxonomist serves {settings.url}, its state is in {settings.home}")
    become_server(settings, with_worker=with_worker)


def worker(
    context: typer.Context,
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="Exit when this process is no longer the parent.")
    ] = None,
) -> None:
    """Run the worker alone: it decides labels, trains, embeds and writes predictions."""
    Worker(services_of(context), parent=parent).run()
