"""The commands `taxonomist labels export|list|rename|accept-loss|undo`: the labels, and those whose node is gone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import print_json, print_line, print_table
from taxonomist.backend.labelling.manifests.accepted_labels import accepted_labels, write_labels
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import (
    Decided,
    accept_loss,
    describe,
    rename_labels,
    undo,
)
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import OutsideNode, count_labels, labels_outside
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import format_path

labels = typer.Typer(
    help="Export the accepted labels; decide what becomes of those whose node the taxonomy has no longer.",
    epilog="Example: `taxonomist labels list --project 4`",
    no_args_is_help=True,
)
Control = Annotated[
    str | None, typer.Option(help="Control that had the node; needed where several controls had one of that name.")
]
NODE = 'A node that is gone: "A / B / C", as the labelling config has it, or a JSON list; or a control that is gone.'


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(labels, name="labels")
    labels.command(
        epilog="Examples: `taxonomist labels export labels.csv --project 4` · `taxonomist labels export --json`"
    )(export)
    labels.command("list", epilog="Example: `taxonomist labels list --project 4 --json`")(list_)
    labels.command(
        epilog="Examples: `taxonomist labels rename 'Seating / Stool' 'Seating / Bar stool' --project 4` · "
        "`taxonomist labels rename colour shade --project 4` (a control)"
    )(rename)
    labels.command(
        "accept-loss",
        epilog="Examples: `taxonomist labels accept-loss 'Seating / Stool' --project 4` · "
        "`taxonomist labels accept-loss --all --project 4`",
    )(accept_loss_)
    labels.command("undo", epilog="Example: `taxonomist labels undo 'Seating / Stool' --project 4`")(undo_)


def export(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="CSV file, which `taxonomist import` reads; one that is there is replaced.")
    ] = None,
    project: Project = "",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Also the images without an accepted label, with the reason.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the accepted labels of a project to a CSV file, or print them as JSON."""
    if (file is None) != as_json:
        raise ConfigError("Where to?", hint="Name a CSV file, or give --json.")
    found = list(accepted_labels(services_of(context), project, unlabelled=unlabelled))
    if file is None:
        print_json([asdict(label) for label in found])
        return
    write_labels(file, found)
    images = len({label.image_id for label in found})
    print_line(f"written: {file}, {sum(bool(label.path) for label in found)} labels of {images} images")


def list_(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """List the decisions of a project, and the labels that wait for one."""
    services = services_of(context)
    decisions, outside = services.projects.get(project).label_decisions, labels_outside(services, project)
    if as_json:
        print_json({"decisions": [asdict(decision) for decision in decisions], **asdict(outside)})
        return
    print_table(
        f"Decisions of project {project}",
        ["control", "decision", "on"],
        [(d.control, describe(d), f"{d.decided_at:%Y-%m-%d}") for d in decisions],
    )
    for title, nodes in (
        ("Nodes that are gone: training waits for your decision", outside.gone),
        ("Names that the taxonomy never had", outside.unknown),
        ("Losses that were accepted", outside.accepted),
    ):
        if nodes:
            print_table(title, ["control", "node", "labels", "nearest"], [_row(node) for node in nodes])


def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(help=NODE)],
    new: Annotated[str, typer.Argument(help="The node, or the control, in its place.")],
    project: Project = "",
    control: Control = None,
    as_json: Json = False,
) -> None:
    """Let labels that name a node that is gone, or a node below it, count as another one and the nodes below that."""
    _print(rename_labels(services_of(context), project, old, new, control=control), "count as the other node", as_json)


def accept_loss_(
    context: typer.Context,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...", help=NODE)] = None,
    project: Project = "",
    every: Annotated[bool, typer.Option("--all", help="All nodes that are gone now.")] = False,
    control: Control = None,
    as_json: Json = False,
) -> None:
    """Accept that labels on nodes that are gone are lost. They still count as far as their beginning is known."""
    if bool(nodes) == every:
        raise ConfigError("Which labels?", hint="Name the nodes that are gone, or give --all.")
    _print(accept_loss(services_of(context), project, nodes or (), control=control), "are given up", as_json)


def undo_(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="The node of the decision, as `labels list` shows it.")],
    project: Project = "",
    control: Control = None,
    as_json: Json = False,
) -> None:
    """Withdraw a decision."""
    _print(undo(services_of(context), project, node, control=control), "wait for a decision", as_json)


def _print(decided: Decided, effect: str, as_json: bool) -> None:
    if as_json:
        print_json(asdict(decided))
        return
    for decision in decided.decisions:
        print_line(describe(decision))
    print_line(f"{count_labels(decided.labels)} {effect}.")
    if gone := decided.outside.gone:
        print_line(f"Training still waits for a decision on {', '.join(node.name for node in gone)}.")
    else:
        print_line("Nothing holds back the training.")


def _row(node: OutsideNode) -> tuple[str, str, int, str]:
    nearest = shorten(format_path(node.nearest)) if node.nearest else ""
    return shorten(node.control), shorten(node.name), node.labels, nearest
