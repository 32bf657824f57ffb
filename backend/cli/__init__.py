"""The command line: `taxonomist …`. Each command turns its arguments into calls and prints the result."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli import cosmos, data, models, operate, pretraining, stages, submit
from taxonomist.backend.cli.output import complain
from taxonomist.backend.error_codes import exit_code
from taxonomist.backend.logs import set_up_logging
from taxonomist.backend.services import Services
from taxonomist.backend.settings import load_settings
from taxonomist.taxonomy.errors import TaxonomistError

app = typer.Typer(
    name="taxonomist",
    help="Label Studio ML backend for images labelled with a taxonomy.",
    epilog="First look: `taxonomist demo`. Beside a Label Studio that you have: `taxonomist serve`, then "
    "`taxonomist connect --url http://localhost:8080 --project 4`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
operate.register(app)
data.register(app)
models.register(app)
pretraining.register(app)
submit.register(app)
cosmos.register(app)
stages.register(app)


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder of all state (TAXONOMIST_HOME).")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if show_version:
        typer.echo(version("label-studio-taxonomist"))
        raise typer.Exit
    settings = load_settings(home=home, log_level=log_level.upper() if log_level else None)
    # A person at a terminal wants the progress bar and what went wrong; a service's log tells what it does.
    quiet = log_level is None and context.invoked_subcommand not in {"serve", "worker"}
    set_up_logging("WARNING" if quiet else settings.log_level)
    context.obj = Services(settings)
    context.call_on_close(context.obj.close)


def main() -> None:
    """The console script: runs a command; an error is one line that says what to do, and an exit code of its own."""
    try:
        app()
    except TaxonomistError as error:
        complain(error)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
