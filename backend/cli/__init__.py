"""The command line `taxonomist`. Each command turns its options into calls and prints the result.

A module has the commands of one subject: those about one project are in `project/`, those that train in `training/`.
`commands` lists them, `options` has what several commands share, `output` prints.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.commands import CommandGroup
from taxonomist.backend.cli.output import print_error
from taxonomist.backend.error_codes import exit_code
from taxonomist.backend.logs import set_up_logging
from taxonomist.backend.settings import load_settings
from taxonomist.storage.files import disk_error
from taxonomist.storage.home.privacy import make_private
from taxonomist.taxonomy.errors import TaxonomistError

app = typer.Typer(
    name="taxonomist",
    cls=CommandGroup,
    help="Label Studio ML backend for images labelled with a taxonomy.",
    epilog="Try it: `taxonomist demo`. With your own Label Studio: `taxonomist serve`, then "
    "`taxonomist connect --url http://localhost:8080 --project 4`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder of all state (TAXONOMIST_HOME).")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR (TAXONOMIST_LOG_LEVEL).")] = None,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(version("label-studio-taxonomist"))
        raise typer.Exit
    loaded = load_settings(home=home, log_level=log_level.upper() if log_level else None)
    # A terminal shows a progress bar and warnings only; the log of a service shows what it does.
    quiet = "log_level" not in loaded.model_fields_set and context.invoked_subcommand not in {"serve", "worker"}
    set_up_logging("WARNING" if quiet else loaded.log_level)
    make_private(loaded.home)
    context.obj = loaded  # until a command needs its services


def main() -> None:
    """Run a command. An error is printed as one line with a hint, and each kind of error has its own exit code."""
    try:
        app(prog_name="taxonomist")  # also of `python -m taxonomist`, so that its completion is that of the program
    except TaxonomistError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if (explained := disk_error(error)) is None:
            raise
        print_error(explained)
        sys.exit(exit_code(explained))
    except KeyboardInterrupt:
        sys.exit(130)
