"""The command `taxonomist study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import print_json, print_line, step_bar
from taxonomist.backend.extras import require


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `taxonomist study --project furniture --out study --seeds 5`")(study)


def study(
    context: typer.Context,
    project: Project = "",
    out: Annotated[Path, typer.Option(help="Folder for the report; a study in it that was stopped resumes.")] = Path(
        "study"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Number of random splits.")] = 5,
    train: Annotated[int, typer.Option(min=1, help="Labelled images in the training part.")] = 411,
    validation: Annotated[int, typer.Option(min=1, help="Labelled images in the validation part.")] = 157,
    test: Annotated[int, typer.Option(min=1, help="Labelled images in the test part.")] = 216,
    versions: Annotated[
        list[str] | None, typer.Option("--version", help="A backbone to compare besides the champion; repeatable.")
    ] = None,
    control: Annotated[str | None, typer.Option(help="Taxonomy of the labelling config; default: the first.")] = None,
    imagenet: Annotated[bool, typer.Option(help="Compare ImageNet weights, if they are available.")] = True,
    fine_tune: Annotated[
        int, typer.Option(min=0, max=4, help="Compare backbones with this number of blocks fine-tuned, too.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Compare backbones on the labels of a project: tables, confusion matrices and learning curves."""
    require("train")
    from taxonomist.backend.study import StudyOptions, study_project  # noqa: PLC0415 - brings torch

    options = StudyOptions(train=train, validation=validation, test=test, seeds=seeds)
    with step_bar("Study") as progress:
        result = study_project(
            services_of(context),
            project,
            out,
            options,
            progress,
            versions=versions or (),
            control=control,
            imagenet=imagenet,
            fine_tune=fine_tune,
        )
    if as_json:
        print_json({"report": result.report, "contestants": list(result.trials)})
        return
    print_line(f"Report, tables and plots: {result.report}")
