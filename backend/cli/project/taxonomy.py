"""The commands `taxonomist taxonomy diff|apply`: what nodes that are gone became, and what their labels count as."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import print_json, print_line, print_table
from taxonomist.backend.labelling.taxonomy_changes.apply_changes import Rename, apply_certain, map_labels, open_changes
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import Decided, describe
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import count_labels
from taxonomist.backend.labelling.taxonomy_changes.taxonomy_diff import ChangedNode, TaxonomyDiff
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import shorten

taxonomy = typer.Typer(
    help="See what a change of the taxonomy means for the labels, and let them count as the new nodes.",
    epilog="Example: `taxonomist taxonomy diff --project 4`",
    no_args_is_help=True,
)
COLUMNS = ("old → new", "labels", "why")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(taxonomy, name="taxonomy")
    taxonomy.command(epilog="Example: `taxonomist taxonomy diff --project 4 --json`")(diff)
    taxonomy.command(
        epilog="Examples: `taxonomist taxonomy apply --project 4` (shows what would be done) · "
        "`taxonomist taxonomy apply --project 4 --yes` · "
        "`taxonomist taxonomy apply --map 'Seating / Stool=Seating / Bar stool' --project 4 --yes`"
    )(apply)


def diff(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """Show which nodes are gone, what they became, and how many labels name them. Nothing is changed."""
    found = open_changes(services_of(context), project)
    if as_json:
        print_json(asdict(found))
        return
    _print_diff(found, project)


def apply(
    context: typer.Context,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OLD=NEW",
            help="A node that is gone and the one in its place; several times. Then only these are applied.",
        ),
    ] = None,
    project: Project = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; without, it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Let the labels of nodes that are gone count as the nodes that these became: the certain ones, or those named.

    All labels stay as they were given; `taxonomist labels undo` takes a decision back.
    """
    services = services_of(context)
    if maps:
        decided = map_labels(services, project, [_rename(text) for text in maps], dry_run=not yes)
    else:
        decided = apply_certain(services, project, dry_run=not yes)
    if as_json:
        print_json({"applied": yes, **asdict(decided)})
        return
    _print_decided(decided, project, yes=yes)


def _rename(text: str) -> Rename:
    """Return the two nodes of OLD=NEW; the first equals sign with blanks around it counts, if there is one."""
    old, _, new = text.partition(" = " if " = " in text else "=")
    if not old.strip() or not new.strip():
        raise ConfigError(
            f'--map "{shorten(text)}" is not OLD=NEW.',
            hint='Write it as "Seating / Stool = Seating / Bar stool", or use `taxonomist labels rename OLD NEW`.',
        )
    return Rename(old, new)


def _print_diff(found: TaxonomyDiff, project: str) -> None:
    certain, asked = found.labels
    if found.certain:
        print_table("Certain", COLUMNS, [_row(node) for node in found.certain])
        print_line(
            f"`taxonomist taxonomy apply --project {project} --yes` lets {count_labels(certain)} count as these nodes."
        )
    if found.asked:
        print_table("Not certain: training waits for your decision", COLUMNS, [_row(node) for node in found.asked])
        print_line(
            f"{count_labels(asked)} wait: `taxonomist taxonomy apply --map OLD=NEW --project {project} --yes`, or "
            f"`taxonomist labels accept-loss OLD --project {project}`."
        )
    if not found.certain and not found.asked:
        print_line("No node that is gone waits for a decision.")


def _row(node: ChangedNode) -> tuple[str, int, str]:
    return shorten(node), node.labels, node.reason


def _print_decided(decided: Decided, project: str, *, yes: bool) -> None:
    for decision in decided.decisions:
        print_line(describe(decision))
    if not decided.decisions:
        print_line("Nothing is certain that is not decided yet.")
    elif yes:
        print_line(f"{count_labels(decided.labels)} count as these nodes.")
    else:
        print_line(f"{count_labels(decided.labels)} would count as these nodes. Nothing was changed: add --yes.")
        return
    if decided.outside.gone:
        print_line(f"Training still waits for a decision: `taxonomist taxonomy diff --project {project}`.")
    else:
        print_line("Nothing holds back the training.")
