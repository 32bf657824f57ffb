"""Commands about images and labels: import, sync, embed, similar."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import counting, fields, print_json, say, steps, table
from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.evaluation import look_alikes_of_file
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import format_path

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _only_project(context: typer.Context, project: str) -> str:
    """The project that was named, else the only one there is. Raises `ConfigError` that lists what could be named."""
    known = [] if project else [record.project for record in services_of(context).projects]
    if not project and len(known) != 1:
        seen = f"Known are: {', '.join(known)}." if known else "None is known: import a catalogue or connect a project."
        raise ConfigError("Which project? Give --project.", hint=seen)
    return project or known[0]


Project = Annotated[
    str,
    typer.Option(
        callback=_only_project,
        show_default=False,
        help="Number of the project in Label Studio, or the name given to an import; default: the only one there is.",
    ),
]
_PROBLEMS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "import",
        epilog="Examples: `taxonomist import manifest.csv --project furniture` · `taxonomist import export.json`",
    )(import_)
    app.command(epilog="Example: `taxonomist sync --project 4`")(sync)
    app.command(epilog="Example: `taxonomist embed --project furniture`")(embed)
    app.command(epilog="Example: `taxonomist similar photo.jpg --project furniture -k 5`")(similar)


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A CSV with file, level1, level2, …, or a Label Studio export (.json).")],
    project: Annotated[str | None, typer.Option(help="Project to import into; an export may name its own.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the CSV's files, if not beside it or in images/.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Labelling config (XML) of an export.")] = None,
    as_json: Json = False,
) -> None:
    """Take images, and labels where there are some, from a CSV manifest or a Label Studio export."""
    services = services_of(context)
    with counting(f"Importing {file.name}") as progress:
        if file.suffix.lower() == ".json":
            done = import_export(services, file, project=project, config=config, progress=progress)
        elif project is None:
            raise ConfigError("A CSV needs --project NAME.")
        else:
            done = import_manifest(services, file, project, images=images, progress=progress)
    _report(done, as_json)


def sync(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """Fetch from Label Studio what its webhooks did not bring."""
    with steps("Sync") as progress:
        outcome = run(services_of(context), JobKind.SYNC, project, progress)
    print_json({"project": project, "outcome": outcome}) if as_json else say(outcome)


def embed(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """Embed every image of a project that has no embedding yet."""
    services = services_of(context)
    with steps("Embed") as progress:
        prepare_backbone(services)
        outcome = run(services, JobKind.EMBED, project, progress)
    print_json({"project": project, "outcome": outcome}) if as_json else say(outcome)


def similar(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="A picture.")],
    project: Project = "",
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many look-alikes.")] = None,
    as_json: Json = False,
) -> None:
    """Show the labelled images of a project that look most like a picture."""
    found = look_alikes_of_file(services_of(context), project, image, k)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    rows = [
        (
            f"{each.similarity:.3f}",
            each.uri,
            "; ".join(format_path(path) for paths in each.labels.values() for path in paths),
        )
        for each in found
    ]
    table(f"Look-alikes of {image.name}", ["similarity", "image", "labels"], rows)


def _report(done: ImportResult, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    fields(
        {
            "project": done.project,
            "images": done.images,
            "annotations": done.annotations,
            "labelled images": done.labelled,
        }
    )
    for problem in done.problems[:_PROBLEMS_SHOWN]:
        say(f"  left out: {problem}")
    if done.left_out > _PROBLEMS_SHOWN:
        say(f"  and {done.left_out - _PROBLEMS_SHOWN} more; --json lists them")
    say(f"Next: taxonomist train --project {done.project}")
