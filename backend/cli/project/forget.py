"""The command `taxonomist forget`: removes a project or an image, and what only it used."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.completion import projects
from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import confirm, print_json, print_line, print_table, step_bar
from taxonomist.backend.connection.disconnect import disconnect, is_connected
from taxonomist.backend.forgetting.forget import delete_backups, forget_image, forget_project
from taxonomist.backend.forgetting.plan import Plan, plan_image, plan_project
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.redaction import printable

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `taxonomist forget --project 4 --dry-run` · `taxonomist forget --image "
        "/data/upload/4/3f2a-chair.jpg` · `taxonomist forget --project furniture --yes --json`"
    )(forget)


def forget(
    context: typer.Context,
    project: Annotated[
        str | None,
        typer.Option(
            help="Number of the project in Label Studio, or the name given to an import.", autocompletion=projects
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Address of an image, its id, or the path of its file; in all projects.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    with_backups: Annotated[
        bool, typer.Option("--backups", help="Also delete the databases as they were before a migration.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove a project or an image, and what only it used: labels, events, embeddings, files, models."""
    services = services_of(context)
    if (project is None) == (image is None):
        raise ConfigError("Forget what?", hint="Give either --project ID or --image ADDRESS.")
    plan = plan_project(services, project) if project is not None else plan_image(services, image or "")
    if not as_json:
        _print_plan(plan, with_backups=with_backups)
    if dry_run:
        print_json(_summary(plan, [], dry_run=True)) if as_json else print_line("Nothing was removed (--dry-run).")
        return
    _confirm(plan, yes=yes)
    done: list[str] = []
    try:
        _remove(services, plan, done, with_backups=with_backups)
    except BaseException:
        for line in done:
            typer.echo(printable(line), err=True)
        raise
    if as_json:
        print_json(_summary(plan, done, dry_run=False))
        return
    for line in done:
        print_line(line)
    print_line(f"{_name(plan)} is forgotten.")


def _remove(services: Services, plan: Plan, done: list[str], *, with_backups: bool) -> None:
    """Remove what is planned; add to `done` what was done elsewhere, sentence by sentence, as far as it came."""
    project = plan.project

    def leave_label_studio() -> None:
        if project is not None and is_connected(services, project):
            done.extend(disconnect(services, project))

    with step_bar("Forget") as progress:
        if project is not None:
            forget_project(services, project, progress, first=leave_label_studio)
        else:
            forget_image(services, plan, progress)
    if with_backups and plan.backups:
        delete_backups(services)
        done.append(f"Deleted: {', '.join(map(str, plan.backups))}.")


def _confirm(plan: Plan, *, yes: bool) -> None:
    """Ask on a terminal. Raises `ConfigError` where nobody can answer, and ends the command after a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("Nothing was removed: there is no terminal to ask.", hint="Give --yes, or --dry-run.")
    if not confirm(f"Forget {_name(plan)}? It cannot be undone.", err=True):
        typer.echo("Nothing was removed.", err=True)
        raise typer.Exit(1)


def _name(plan: Plan) -> str:
    return f"Project {plan.project}" if plan.project is not None else f"Image {plan.image}"


def _summary(plan: Plan, done: list[str], *, dry_run: bool) -> dict[str, Any]:
    return {
        "project": plan.project,
        "image": plan.image,
        "dry_run": dry_run,
        "goes": {kind: count.count for kind, count in plan.goes.items()},
        "bytes": {kind: count.bytes for kind, count in plan.goes.items() if count.bytes is not None},
        "stays": list(plan.stays),
        "backups": [str(folder) for folder in plan.backups],
        "done": done,
    }


def _print_plan(plan: Plan, *, with_backups: bool) -> None:
    rows = [
        (kind, count.count, "" if count.bytes is None else _size(count.bytes))
        for kind, count in plan.goes.items()
        if count.count
    ]
    print_table(f"{_name(plan)}: what goes", ["what", "number", "size"], rows)
    for line in plan.stays:
        print_line(line)
    for folder in plan.backups:
        goes = "goes too (--backups)." if with_backups else "has the former databases; --backups deletes it."
        print_line(f"{folder} {goes}")


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
