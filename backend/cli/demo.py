"""The command `taxonomist demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import services_of
from taxonomist.backend.cli.output import print_line
from taxonomist.backend.extras import require


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `taxonomist demo --port 8080`")(demo)


def demo(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(help="First port to try for the one address of Label Studio and our pages.")
    ] = 8080,
    backend_port: Annotated[int, typer.Option(help="First port to try for the backend.")] = 9090,
    environment: Annotated[
        Path | None, typer.Option(help="Virtual environment with Label Studio; it is created if missing.")
    ] = None,
    keep_running: Annotated[
        bool, typer.Option(help="Run until stopped, or exit as soon as everything has started.")
    ] = True,
) -> None:
    """Start Label Studio with a demo project of furniture images, and the backend, all on this machine."""
    require("train")
    from taxonomist.backend.demo.run import run_demo  # noqa: PLC0415 - the extra train, for its worker

    run_demo(
        services_of(context).settings,
        environment=environment,
        port=port,
        backend_port=backend_port,
        keep_running=keep_running,
        say=print_line,
    )
