"""The commands of a pre-training: `taxonomist prepare` and `taxonomist pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import FormerPictures, Json, services_of
from taxonomist.backend.cli.output import count_bar, print_error, print_fields, print_json, print_line, step_bar
from taxonomist.backend.extras import require
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store, serving_size
from taxonomist.backend.pretraining.state import PretrainRequest, StoppedError, StopSignal
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.numbers import whole_number
from taxonomist.training.pretraining.recipe import PRECISIONS

_FAILURES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: `taxonomist prepare` · `taxonomist prepare --size 160 --json`")(prepare)
    app.command(
        epilog="Examples: `taxonomist pretrain` · `taxonomist pretrain --preset thesis --epochs 20 --fresh` · "
        "`taxonomist pretrain --devices 4`"
    )(pretrain)


def prepare(
    context: typer.Context,
    size: Annotated[
        int | None, typer.Option(min=32, max=1024, help="Side in pixels; default: the size of served images.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode and resize every image of the catalogue for pre-training; only new images are read."""
    services = services_of(context)
    size = size or serving_size(services)
    with count_bar("Preparing") as progress:
        prepared = prepare_all(services, size, progress)
    count, failures = len(prepared_image_store(services, size)), prepared.failures
    if as_json:
        former_name = {"pictures": count}
        print_json({"size": size, "images": count, "new": prepared.new, "failures": failures} | former_name)
        return
    print_fields({"size": f"{size} pixels", "images": count, "new": prepared.new, "failed": len(failures)})
    for image, reason in list(failures.items())[:_FAILURES_SHOWN]:
        print_line(f"  failed: {image}: {reason}")


def pretrain(
    context: typer.Context,
    preset: Annotated[
        str | None,
        typer.Option(help="Recipe: default, cpu, thesis or smoke; default: TAXONOMIST_PRETRAIN_PRESET."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images; default: the recipe's.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start weights: champion (the backbone that is served), imagenet, starter, random or a file; default: "
            "TAXONOMIST_PRETRAIN_WEIGHTS, else champion, but random for thesis and smoke."
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh", help="Resume the unfinished run, or discard it; default: resume if there is one."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu; default: TAXONOMIST_PRETRAIN_DEVICE.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Number format: auto, 32 or bf16; default: TAXONOMIST_PRETRAIN_PRECISION."),
    ] = None,
    devices: Annotated[str, typer.Option(help="Number of devices of this machine; auto: all.")] = "1",
    nodes: Annotated[
        int, typer.Option(min=1, help="Number of machines; the command to start on each of them is printed.")
    ] = 1,
    adopt: Annotated[
        bool, typer.Option(help="Embed all images again, train models, and promote all of them if they are better.")
    ] = True,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder of prepared images that `data fetch` wrote: train on all of them.")
    ] = None,
    pictures: FormerPictures = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a report: version, curves and plot.")] = None,
) -> None:
    """Pre-train a backbone on all images, labelled or not. It is promoted if models on it are better.

    Ctrl-C stops the pre-training; the next call resumes it. When torchrun or Azure ML starts this command as one of
    several processes, it takes its rank from the environment: the first process does the whole job, the others take
    part in the training only.
    """
    require("train")
    from taxonomist.backend.pretraining.distributed import run_distributed  # noqa: PLC0415 - brings torch

    services = services_of(context)
    number = whole_number(devices)
    device_count = devices if number is None else number
    number_format = next((known for known in PRECISIONS if known == precision), None)
    if precision is not None and number_format is None:
        raise ConfigError(f"There is no number format '{precision}'.", hint=f"They are {', '.join(PRECISIONS)}.")
    request = PretrainRequest(
        preset=preset,
        epochs=epochs,
        weights=weights,
        resume=resume,
        device=device,
        precision=number_format,
        devices=device_count,
        nodes=nodes,
        adopt=adopt,
        prepared=prepared or pictures,
        out=out,
    )
    with StopSignal() as stop:
        try:
            with step_bar("Pre-train") as progress:
                outcome = run_distributed(services, request, progress, stop)
        except StoppedError as stopped:
            print_error(stopped)
            raise typer.Exit(130) from None
    print_line(outcome)
