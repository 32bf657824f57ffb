"""The command `taxonomist serve`. It imports little: its process only reads the settings and becomes the server."""

from __future__ import annotations

from typing import Annotated

import typer

from taxonomist.backend.cli.output import print_line
from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.backend.web.start_server import become_server
from taxonomist.storage.home.version_file import VERSION, home_version


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: `taxonomist serve` · `TAXONOMIST_PASSWORD=… taxonomist serve --host 0.0.0.0`")(serve)


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (TAXONOMIST_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (TAXONOMIST_PORT).")] = None,
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run the worker, too.")] = True,
) -> None:
    """Run the server that Label Studio calls, with the worker beside it."""
    general = context.find_root().obj
    assert isinstance(general, Settings)
    options = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = load_settings(**{**general.model_dump(exclude_unset=True), **options})
    check_exposure(settings)
    if home_version(settings.home) not in {None, VERSION}:
        from taxonomist.backend.cli.options import services_of  # noqa: PLC0415 - only a migration needs the stores

        services_of(context)
    print_line(f"taxonomist serves {settings.url}, its state is in {settings.home}")
    become_server(settings, with_worker=with_worker)
