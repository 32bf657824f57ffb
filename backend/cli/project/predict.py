"""The command `taxonomist predict`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import count_bar, print_json, print_line, print_table
from taxonomist.backend.prediction.image_predictions import (
    Prediction,
    find_images,
    predict_images,
    write_predictions,
)
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.taxonomy.paths import format_path

_COLUMNS = ("image", "control", "path", "probability")
_ERRORS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `taxonomist predict photo.jpg` · `taxonomist predict photos --project furniture --csv "
        "predictions.csv` · `taxonomist predict photos --json`"
    )(predict)


def predict(
    context: typer.Context,
    images: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Image files, and folders with all below them.")
    ],
    project: Project = "",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="File for the predictions; one that is there is replaced.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the paths of image files by the champion of a project. Nothing is stored.

    The exit code is 1 when an image could not be read.
    """
    services = services_of(context)
    files, predictor = find_images(images), Predictor(services)
    with count_bar("Predict", len(files)) as progress:
        predictions = list(predict_images(services, project, files, predictor, progress))
    model = predictor.model(project)
    unreadable = {found.image: found.error for found in predictions if found.error}
    if csv is not None:
        write_predictions(csv, predictions)
    if as_json:
        version = model.version if model else None
        print_json({"project": project, "version": version, "predictions": [asdict(found) for found in predictions]})
    else:
        if csv is None:
            title = f"Project {project}, model {model.version}" if model else f"Project {project}, by look-alikes"
            print_table(title, _COLUMNS, [_row(found) for found in predictions if not found.error], places=["image"])
        for image, error in islice(unreadable.items(), _ERRORS_SHOWN):
            print_line(f"not readable: {image}: {error}")
        counts = Counter(map(_kind, predictions))
        print_line(f"{len(files)} images; " + ", ".join(f"{kind}: {count}" for kind, count in counts.items()) + ".")
        if csv is not None:
            print_line(f"written: {csv}")
    if unreadable:
        raise typer.Exit(1)


def _kind(prediction: Prediction) -> str:
    if prediction.error:
        return "not readable"
    if prediction.shortlist:
        return "with a shortlist"
    return "with a path" if prediction.path else "without a suggestion"


def _row(prediction: Prediction) -> tuple[str, str, str, str]:
    text = format_path(prediction.path)
    if prediction.shortlist:
        text = "one of: " + "; ".join(map(format_path, prediction.shortlist))
    score = f"{prediction.score:.2f}" if prediction.score else ""
    return prediction.image, prediction.control, text or "nothing to suggest", score
