"""The commands about backbones: `taxonomist backbone list|show|add|adopt|promote|rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.completion import backbones_to_adopt
from taxonomist.backend.cli.options import BackboneArgument, FormerPictures, Json, services_of
from taxonomist.backend.cli.output import print_error, print_fields, print_json, print_line, print_table, step_bar
from taxonomist.backend.cli.training.backbone_add import add
from taxonomist.backend.cli.training.models import print_changes
from taxonomist.backend.extras import require
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.pretraining.manual_promotion import promote_backbone, waits_for_a_person
from taxonomist.backend.pretraining.state import StoppedError, StopSignal, adoption_ended, exclusive_pretraining
from taxonomist.backend.services import BACKBONE
from taxonomist.inference.starter import ensure_starter
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import PretrainingSummary
from taxonomist.taxonomy.errors import ConfigError

backbone = typer.Typer(
    help="List, show, add, adopt, promote and roll back the backbones.",
    epilog="Example: `taxonomist backbone list`",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(backbone, name="backbone")
    backbone.command("list", epilog="Example: `taxonomist backbone list`")(list_)
    backbone.command(epilog="Example: `taxonomist backbone show v2`")(show)
    backbone.command(
        epilog="Examples: `taxonomist backbone add timm:convnext_atto --size 160` · "
        "`taxonomist backbone add timm:tf_efficientnet_lite0 --weights lite0.safetensors` · "
        "`taxonomist backbone add model.onnx --mean 0.5 --std 0.5`"
    )(add)
    backbone.command(
        epilog="Examples: `taxonomist backbone adopt v2` · `taxonomist backbone adopt starter` · "
        "`taxonomist backbone adopt --pretrained report`"
    )(adopt)
    backbone.command(epilog="Example: `taxonomist backbone promote v2`")(promote)
    backbone.command(epilog="Example: `taxonomist backbone rollback`")(rollback)


def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the versions of the backbone."""
    registry = services_of(context).registry
    champion, previous = registry.champion(BACKBONE), registry.previous(BACKBONE)
    rows = [_summary(version, champion) for version in registry.versions(BACKBONE)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("There is no backbone yet: `taxonomist embed`, `taxonomist train` or the worker makes the first.")
        return
    marks = {previous: "previous", champion: "champion"}
    print_table(
        "Backbones",
        ["version", "", "created", "architecture", "size", "origin"],
        [
            (
                row["version"],
                marks.get(row["version"], ""),
                str(row["created_at"] or "")[:16].replace("T", " "),
                row["architecture"],
                row["size"],
                row["origin"],
            )
            for row in rows
        ],
    )


def show(context: typer.Context, version: BackboneArgument, as_json: Json = False) -> None:
    """Show one version: its data, its training and the folder of its curves."""
    registry = services_of(context).registry
    found = registry.get(BACKBONE, version)
    registry.verify(found)
    if as_json:
        print_json({**found.manifest, "path": found.path})
        return
    print_fields({**_summary(found, registry.champion(BACKBONE)), "folder": found.path})
    files = [(name, entry.size) for name, entry in found.files.items()]
    print_table("Files", ["file", "bytes"], files)


def adopt(
    context: typer.Context,
    version: Annotated[
        str | None,
        typer.Argument(
            help="A version, as listed by `backbone list`, or starter: the one that ships.",
            autocompletion=backbones_to_adopt,
        ),
    ] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Folder that `pretrain --out` wrote, instead of a version.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder of prepared images that `data fetch` wrote; they are not read again.")
    ] = None,
    pictures: FormerPictures = None,
) -> None:
    """Embed all images with this backbone and train a model for each project; promote all if they are better."""
    require("train")
    from taxonomist.backend.pretraining import adopt as adoption  # noqa: PLC0415 - brings torch

    if (version is None) == (pretrained is None):
        raise ConfigError(
            "Which backbone? Give a version or --pretrained FOLDER.",
            hint="`taxonomist backbone list` shows the versions.",
        )
    services = services_of(context)
    if version == "starter":
        found = ensure_starter(services.registry, BACKBONE)
    else:
        found = services.registry.get(BACKBONE, version or adoption.read_report(pretrained or Path()))
    folder = prepared or pictures
    store = PreparedImageStore(folder, found.backbone_manifest.size) if folder else None
    with StopSignal() as stop:
        try:
            with exclusive_pretraining(services.settings.home), step_bar("Adopt") as progress:
                outcome = adoption.adopt(services, found, progress, stop, store)
                adoption_ended(services.settings.home, found.version)  # the worker need not do it again
        except StoppedError as stopped:
            print_error(stopped)
            raise typer.Exit(130) from None
    print_line(outcome)


def promote(context: typer.Context, version: BackboneArgument) -> None:
    """Serve this backbone from now on, and for each project the newest model that was trained on it.

    A project with promotion=manual keeps its model until `taxonomist models promote`.
    """
    promoted = promote_backbone(services_of(context), version)
    print_line(f"New images are embedded by backbone {version}.")
    for project, head in promoted.heads.items():
        print_line(f"Project {project} is served by {model_version_name(head)}.")
    for project, head in promoted.waiting.items():
        print_line(waits_for_a_person(project, head))
    for project in promoted.kept:
        print_line(
            f"Project {project} has no model on it and keeps its own until `taxonomist train --project {project}`."
        )
    print_line("The worker embeds the other images with it; `taxonomist embed` does it at once.")


def rollback(context: typer.Context) -> None:
    """Go back to the backbone that was served before, and to the models that were promoted with it.

    Each further call goes one version further back.
    """
    services = services_of(context)
    before = services.registry.champions()
    services.registry.rollback(BACKBONE)
    print_changes(services, before)


def _summary(version: ModelVersion, champion: str | None) -> dict[str, Any]:
    manifest = version.backbone_manifest
    pretraining = manifest.pretraining or PretrainingSummary()
    return {
        "version": version.version,
        "champion": version.version == champion,
        "created_at": manifest.created_at,
        "architecture": manifest.architecture,
        "size": manifest.size,
        "dimension": manifest.dimension,
        "origin": manifest.origin or None,
        "licence": manifest.licence or None,
        "images": pretraining.data.count if pretraining.data else None,
        "pictures": pretraining.data.count if pretraining.data else None,  # the former name
        "seen": pretraining.seen,
        "epochs": pretraining.epochs,
        "precision": pretraining.precision,
        "loss": pretraining.loss,
        "score": pretraining.score,
        "best_seen": pretraining.best_seen,
        "stopped_early": pretraining.stopped_early,
        "seconds": pretraining.seconds,
        "device": pretraining.device or None,
    }
