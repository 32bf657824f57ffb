"""`taxonomist backbone add`: a network of timm or an ONNX file becomes a candidate, which the worker adopts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import print_fields, print_json, print_line
from taxonomist.backend.extras import require
from taxonomist.backend.pretraining.prepared_images import sample_images
from taxonomist.backend.pretraining.state import wait_for_adoption
from taxonomist.backend.services import BACKBONE
from taxonomist.backend.state.jobs import JobKind
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import IMAGENET, TIMM, Colour
from taxonomist.training.near_duplicates import near_distance

_COPIED = 60  # images whose copies show how far near-duplicates are apart


def add(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="`timm:` and the name of a network of timm, or an ONNX file.")],
    size: Annotated[
        int | None, typer.Option(help="Side of an image in pixels; default: that of the weights or of the file.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="For timm: a .safetensors file; default: timm's weights from its hub.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="For a file: mean of the colours in 0..1, red first; default: ImageNet's, 0.485,0.456,0.406."
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="For a file: their deviation; default: ImageNet's, 0.229,0.224,0.225.")
    ] = None,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Also when an image takes more than 5 times the champion's time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a backbone: it is checked and measured, then the worker embeds all images and promotes it if it is better.

    Nothing is kept of one that is refused.
    """
    require("train")
    from taxonomist.training.backbones.added.candidate import (  # noqa: PLC0415 - brings torch
        write_onnx_file,
        write_timm_network,
    )
    from taxonomist.training.backbones.added.int8 import (  # noqa: PLC0415 - likewise
        quantise_where_it_holds,
        sample_size,
    )
    from taxonomist.training.backbones.added.trial import try_backbone  # noqa: PLC0415 - likewise

    services = services_of(context)
    champion = services.backbone()
    with tempfile.TemporaryDirectory(prefix="taxonomist-") as temporary:
        folder = Path(temporary)
        if source.startswith(TIMM):
            if mean is not None or std is not None:
                raise ConfigError("--mean and --std are for files: timm knows those of its networks.")
            candidate = write_timm_network(source.removeprefix(TIMM), folder, size, weights)
        else:
            if weights is not None:
                raise ConfigError(
                    "--weights are for networks of timm; an ONNX file has its own.", hint=f"Give {TIMM}NAME."
                )
            colours = _colour("--mean", mean, IMAGENET[0]), _colour("--std", std, IMAGENET[1])
            candidate = write_onnx_file(Path(source), folder, size, *colours)
        file, champion_file = folder / BACKBONE_FILE, champion.path / BACKBONE_FILE if champion else None
        trial = try_backbone(file, champion_file)
        images = sample_images(services, trial.size, sample_size(trial.size))
        trial, number_format = quantise_where_it_holds(file, images, trial, champion_file)
        found: dict[str, Any] = {
            "architecture": candidate.architecture,
            "origin": candidate.origin,
            "size": trial.size,
            "dimension": trial.dimension,
            "number_format": number_format,
            "bytes": trial.bytes,
            "ms": round(trial.ms, 2),
            "champion_ms": None if trial.champion_ms is None else round(trial.champion_ms, 2),
            "licence": candidate.licence or None,
            "timms_licence": candidate.timms_licence or None,
        }
        if not as_json:
            _print(found)
        trial.check_time(allow_slow=allow_slow)
        near = near_distance(Embedder(file).embed, images[:_COPIED])
        version = services.registry.publish(BACKBONE, folder, candidate.manifest(trial, number_format, near)).version
    wait_for_adoption(services.settings.home, version)
    services.jobs.enqueue(JobKind.ADOPT, reason=f"backbone {version} was added")
    if as_json:
        print_json({"version": version, **found})
        return
    print_line(
        f"It is backbone {version}, a candidate. The worker embeds all images with it, trains a model for each project "
        "and promotes all if they are better; `taxonomist status` shows how far it is."
    )


def _print(found: dict[str, Any]) -> None:
    champion = "" if found["champion_ms"] is None else f" (the champion: {found['champion_ms']} ms)"
    timms = (
        f" (of those that timm publishes for this network: {found['timms_licence']})" if found["timms_licence"] else ""
    )
    print_fields(
        {
            "architecture": found["architecture"],
            "origin": found["origin"],
            "images": f"{found['size']} pixels",
            "embedding": f"{found['dimension']:,} numbers",
            "numbers": found["number_format"],
            "file": f"{found['bytes'] / 1e6:.1f} MB",
            "time": f"{found['ms']} ms per image on this machine{champion}",
            "licence": found["licence"] or f"not known: check that you may use the weights{timms}",
        }
    )


def _colour(option: str, text: str | None, default: Colour) -> Colour:
    if text is None:
        return default
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    values = values * 3 if len(values) == 1 else values
    lowest = 0.0 if option == "--mean" else 1e-3
    if len(values) != 3 or not all(lowest <= value <= 1 for value in values):
        raise ConfigError(
            f"{option} is '{text}'.", hint=f"Give one number or three from {lowest:g} to 1, such as 0.5,0.5,0.5."
        )
    red, green, blue = values
    return red, green, blue
