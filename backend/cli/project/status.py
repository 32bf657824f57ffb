"""The commands `taxonomist status` and `taxonomist projects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.completion import projects as projects_named
from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import print_json, print_line, print_table
from taxonomist.backend.status import collect_status, status_lines


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: `taxonomist status` · `taxonomist status --project 4 --json`")(status)
    app.command(epilog="Examples: `taxonomist projects` · `taxonomist projects --json`")(projects)


def status(
    context: typer.Context,
    project: Annotated[
        str | None,
        typer.Option(
            help="Number or name of the project; default: all known projects.",
            autocompletion=projects_named,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what was taken and what was not, what waits for a person, and which model is served. Nothing is changed."""
    found = collect_status(services_of(context), project)
    if as_json:
        print_json(asdict(found))
        return
    for line in status_lines(found):
        print_line(line)


def projects(context: typer.Context, as_json: Json = False) -> None:
    """List the projects, with their images, labels and served models. Nothing is changed."""
    rows: list[dict[str, Any]] = [
        {
            "project": found.project,
            "images": found.images.images if found.images else None,
            "labelled": found.images.labelled if found.images else None,
            "model": found.model.version if found.model else None,
            "macro_f1": found.model.macro_f1 if found.model else {},
            "problem": found.damaged or "; ".join(found.problems) or None,
        }
        for found in collect_status(services_of(context), None).projects
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("There is no project yet: run `taxonomist import` or `taxonomist connect` first.")
        return
    columns = ["project", "images", "labelled", "model", "macro-F1"]
    print_table("Projects", columns, [(*list(row.values())[:4], _scores(row["macro_f1"])) for row in rows])
    for row in rows:
        if row["problem"]:
            print_line(f"{row['project']}: {row['problem']}")


def _scores(by_control: Mapping[str, float]) -> str:
    if len(by_control) == 1:
        return f"{next(iter(by_control.values())):.2f}"
    return ", ".join(f"{control} {score:.2f}" for control, score in by_control.items())
