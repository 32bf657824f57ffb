"""The commands about images and their labels: `taxonomist import`, `sync`, `embed` and `similar`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.completion import projects
from taxonomist.backend.cli.options import Json, Project, ReachableProject, services_of
from taxonomist.backend.cli.output import count_bar, print_fields, print_json, print_line, print_table, step_bar
from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.label_studio_export import import_export, is_export
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.prediction.image_predictions import look_alikes_of_image, predict_images
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import format_path

_LINES_SHOWN = 20
_LONGEST_LINE = 1000  # characters; --json has the whole line


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "import",
        epilog="Examples: `taxonomist import manifest.csv --project furniture` · `taxonomist import corrected.csv "
        "--project furniture --source manifest.csv --dry-run` · `taxonomist import export.json`",
    )(import_)
    app.command(epilog="Example: `taxonomist sync --project 4`")(sync)
    app.command(epilog="Example: `taxonomist embed --project furniture`")(embed)
    app.command(
        epilog="Examples: `taxonomist similar photo.jpg --project furniture -k 5` · "
        "`taxonomist similar photo.jpg --json --suggestions`"
    )(similar)


def import_(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="A CSV with file, level1, level2, …, an export of Label Studio (JSON), or a target storage's folder."
        ),
    ],
    project: Annotated[
        str | None,
        typer.Option(
            help="Project to import into; default: the project that the export names.", autocompletion=projects
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of the files in the CSV, repeatable; default: beside the CSV, and images/ there."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Labelling config (XML) that the project gets.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Name of what the file comes from; default: its file name. The project follows a source that it "
            "knows; another one is added."
        ),
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="CSV: an annotator may give an image several paths.")
    ] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="CSV: take the other rows, and withdraw nothing without a row.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="CSV: show what would change and store nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="CSV: withdraw more than a tenth of the labels or images of the source.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Import images, with labels if there are any, from a CSV manifest or a Label Studio export."""
    services = services_of(context)
    manifest_only = {"--images": bool(images), "--multi-label": multi_label, "--skip-bad-rows": skip_bad_rows}
    manifest_only |= {"--dry-run": dry_run, "--yes": yes}
    with count_bar(f"Importing {file.name}") as progress:
        if is_export(file):
            if wrong := next((name for name, given in manifest_only.items() if given), None):
                raise ConfigError(f"{wrong} is for CSV manifests.", hint=f"Leave it out for {file.name}.")
            result = import_export(services, file, project=project, config=config, source=source, progress=progress)
        elif project is None:
            raise ConfigError("A CSV does not name its project.", hint="Give --project NAME.")
        else:
            options = ManifestOptions(source, config, skip_bad_rows, multi_label, dry_run, confirmed=yes)
            result = import_manifest(services, file, project, images=images, options=options, progress=progress)
    if as_json:
        print_json(asdict(result))
    else:
        _print_import(result)


def sync(context: typer.Context, project: ReachableProject = "", as_json: Json = False) -> None:
    """Fetch from Label Studio what its webhooks did not deliver."""
    with step_bar("Sync") as progress:
        outcome = run(services_of(context), JobKind.SYNC, project, progress)
    print_json({"project": project, "outcome": outcome}) if as_json else print_line(outcome)


def embed(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """Embed every image of a project that has no embedding yet."""
    services = services_of(context)
    with step_bar("Embed") as progress:
        prepare_backbone(services)
        outcome = run(services, JobKind.EMBED, project, progress)
    print_json({"project": project, "outcome": outcome}) if as_json else print_line(outcome)


def similar(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="An image file.")],
    project: Project = "",
    k: Annotated[int | None, typer.Option("-k", min=1, help="Number of look-alikes.")] = None,
    as_json: Json = False,
    suggestions: Annotated[
        bool, typer.Option("--suggestions", help="With --json: an object that has the suggestions, too.")
    ] = False,
) -> None:
    """Show the labelled images of a project that look most like an image, and what is suggested for it, or why not.

    With --json, the look-alikes are a list; --suggestions gives both.
    """
    services = services_of(context)
    predictor = Predictor(services)
    look_alikes = look_alikes_of_image(services, project, image, k, predictor)
    if as_json and not suggestions:
        print_json([asdict(look_alike) for look_alike in look_alikes])
        return
    predictions = list(predict_images(services, project, [image], predictor))
    model = predictor.model(project)
    if as_json:
        print_json(
            {
                "project": project,
                "version": model.version if model else None,
                "suggestions": [asdict(found) for found in predictions],
                "look_alikes": [asdict(look_alike) for look_alike in look_alikes],
            }
        )
        return
    for found in predictions:
        of = f"Suggestion, {found.control}" if len(predictions) > 1 else "Suggestion"
        print_line(f"{of}: {found.describe()}")
    rows = [
        (
            f"{look_alike.similarity:.3f}",
            look_alike.uri,
            "; ".join(format_path(path) for paths in look_alike.labels.values() for path in paths),
        )
        for look_alike in look_alikes
    ]
    print_table(f"Look-alikes of {image.name}", ["similarity", "image", "labels"], rows, places=["image"])


def _print_import(result: ImportResult) -> None:
    decided = {
        "  accepted label": result.accepted,
        "  waiting for a second opinion": result.waiting,
        **{f"  {reason.replace('_', ' ')}": count for reason, count in result.unlabelled.items()},
    }
    print_fields(
        {
            "project": result.project,
            **({"source": result.source} if result.source else {}),
            "tasks or rows": result.entries,
            "images": result.images,
            **({} if result.dry_run else decided),
            "annotations": f"{result.annotations} ({result.skipped} skipped)" if result.skipped else result.annotations,
            **({} if result.dry_run else {"labelled images": result.labelled}),
            **{what: count for what, count in result.changes.items() if count},
        }
    )
    for reason, count in result.left_out_reasons.items():
        print_line(f"left out: {count} × {reason}")
    for name, count in result.unknown_names.items():
        print_line(f"not in the taxonomy: {name} ({count} ×)")
    for note in result.notes:
        print_line(f"note: {note}")
    if result.unknown_columns:
        print_line(f"columns that are not used: {', '.join(result.unknown_columns)}")
    if result.kept:
        print_line(f"kept, since rows were left out: {result.kept} images or labels without a row")
    if result.of_earlier_imports:
        print_line(
            f"stay: {result.of_earlier_imports} images of imports by an earlier release that this file does not name. "
            "Import their own file again, or remove one by taxonomist forget --image ADDRESS:"
        )
        _print_some(result.unnamed_images, result.of_earlier_imports)
    _print_some(result.problems, result.left_out)
    _print_some(result.changed, len(result.changed))
    _print_some([f"question: {question}" for question in result.questions], len(result.questions))
    if result.dry_run:
        print_line("Nothing is stored (--dry-run).")
    elif result.labelled:
        print_line(f"Next: taxonomist train --project {result.project}")


def _print_some(lines: Sequence[str], count: int) -> None:
    for line in lines[:_LINES_SHOWN]:
        print_line(f"  {shorten(line, _LONGEST_LINE)}")
    if count > _LINES_SHOWN:
        print_line(f"  and {count - _LINES_SHOWN} more; --json lists them")
