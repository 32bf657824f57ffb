"""The commands about the connection to Label Studio: `taxonomist connect` and `taxonomist doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from taxonomist.backend.cli.completion import projects
from taxonomist.backend.cli.options import Json, check_reachable, services_of
from taxonomist.backend.cli.output import confirm, out, print_fields, print_json, print_line, prompt
from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.connection.doctor import run_checks


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: `taxonomist connect --url http://localhost:8080 --api-key … --project 4`")(connect)
    app.command(epilog="Examples: `taxonomist doctor` · `taxonomist doctor --project 4 --json`")(doctor)


def connect(
    context: typer.Context,
    project: Annotated[
        str,
        typer.Option(
            help="Number of the project in Label Studio.",
            autocompletion=projects,
        ),
    ],
    url: Annotated[str | None, typer.Option(help="Address of Label Studio.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Access token of a Label Studio user.")] = None,
    product_field: Annotated[
        str | None,
        typer.Option(
            help="Field of a task that names its product or service report, or a pattern of the file name "
            "({product}_*.jpg); default: the one set, else it is proposed and asked for."
        ),
    ] = None,
    annotators: Annotated[
        int | None,
        typer.Option(min=1, help="Number that must name a path; default: the one set, else it is asked for."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Change the labelling config and take what is proposed, without asking.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Connect it in the place of another project with this number.")
    ] = False,
) -> None:
    """Register the backend in a project: model, webhook with its secret, look-alike panel, pre-filling."""
    connected = connect_project(
        services_of(context),
        project,
        url=url,
        api_key=api_key,
        ask=lambda question: yes or confirm(question),
        say=print_line,
        product_field=product_field,
        annotators=annotators,
        choose=lambda question, proposal: proposal if yes else prompt(question, proposal),
        asked=not yes,
        may_replace=lambda question: replace or (sys.stdin.isatty() and confirm(question)),
    )
    print_fields(asdict(connected))


def doctor(
    context: typer.Context,
    project: Annotated[
        str | None,
        typer.Option(
            help="Number of the project; default: all known projects.",
            autocompletion=projects,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check what commonly breaks and print how to fix it. The exit code is 1 when a check fails."""
    if project:
        check_reachable(services_of(context), project)
    checks = run_checks(services_of(context), project)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        marks = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
        for check in checks:
            out.print(f"{marks[check.status]} ", end="")
            print_line(f"{check.name}: {check.detail}")
            if check.fix:
                print_line(f"       fix: {check.fix}")
    raise typer.Exit(1 if any(check.status == "fail" for check in checks) else 0)
