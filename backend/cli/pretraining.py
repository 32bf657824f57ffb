"""Commands about the backbone: prepare, pretrain, study, backbone list|show|promote|rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.data import Json, Project
from taxonomist.backend.cli.models import tell_moves
from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import complain, counting, fields, print_json, say, steps, table
from taxonomist.backend.extras import require
from taxonomist.backend.label_studio.protocol import model_version_name
from taxonomist.backend.pretraining.manual_promotion import promote_backbone
from taxonomist.backend.pretraining.prepared_images import picture_store, prepare_all, serving_size
from taxonomist.backend.pretraining.state import Asked, Stop, StoppedError, only_one
from taxonomist.backend.services import BACKBONE
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError

backbone = typer.Typer(help="List, show, promote and roll back the backbones.", no_args_is_help=True)
Version = Annotated[str, typer.Argument(help="A version, as `backbone list` shows it.")]
_FAILURES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: `taxonomist prepare`")(prepare)
    app.command(
        epilog="Examples: `taxonomist pretrain` · `taxonomist pretrain --preset thesis --epochs 20 --fresh` · "
        "`taxonomist pretrain --devices 4`"
    )(pretrain)
    app.command(epilog="Example: `taxonomist study --project furniture --out study --seeds 5`")(study)
    app.add_typer(backbone, name="backbone")
    backbone.command("list", epilog="Example: `taxonomist backbone list`")(list_)
    backbone.command(epilog="Example: `taxonomist backbone show v2`")(show)
    backbone.command(
        epilog="Examples: `taxonomist backbone adopt v2` · `taxonomist backbone adopt --pretrained report`"
    )(adopt)
    backbone.command(epilog="Example: `taxonomist backbone promote v2`")(promote)
    backbone.command(epilog="Example: `taxonomist backbone rollback`")(rollback)


def prepare(
    context: typer.Context,
    size: Annotated[
        int | None, typer.Option(min=32, max=1024, help="Side in pixels; default: that of served pictures.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode every picture of the catalogue once, for pre-training; only what is new is read."""
    services = services_of(context)
    size = size or serving_size(services)
    with counting("Preparing") as advance:
        prepared = prepare_all(services, size, advance)
    store = picture_store(services, size)
    if as_json:
        print_json({"size": size, "pictures": len(store), "new": prepared.new, "failures": prepared.failures})
        return
    fields({"size": f"{size} pixels", "pictures": len(store), "new": prepared.new, "failed": len(prepared.failures)})
    for image, reason in list(prepared.failures.items())[:_FAILURES_SHOWN]:
        say(f"  left out: {image}: {reason}")


def pretrain(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Option(help="Recipe: default, cpu, thesis or smoke; default: the setting pretrain_preset.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the pictures; default: the recipe's.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start weights: champion (the backbone that is served), imagenet, starter, random or a file; default: "
            "the setting pretrain_weights, else champion, but random for thesis and smoke."
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--fresh", help="Go on with the unfinished run, or give it up; default: go on, if any."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu; default: the setting pretrain_device.")] = None,
    devices: Annotated[str, typer.Option(help="How many devices of this machine; auto: all.")] = "1",
    nodes: Annotated[int, typer.Option(min=1, help="How many machines; says what to start on each.")] = 1,
    adopt: Annotated[
        bool, typer.Option(help="Embed all pictures anew, train heads, and promote all if that is better.")
    ] = True,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder of prepared images that `data fetch` filled: train on all of them.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(hidden=True, help="The former name of --prepared.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a report: the version, its curves and plot.")] = None,
) -> None:
    """Learn a better backbone from all pictures, labelled or not; it is promoted if the labels say that it is better.

    Ctrl-C stops it; the next call goes on. Started as one process of several, by torchrun or Azure ML, it takes its
    rank from the environment; then the first process does the whole job, and the others train along.
    """
    require("train")
    from taxonomist.backend.pretraining.distributed import run_together  # noqa: PLC0415 - brings torch

    services = services_of(context)
    count = int(devices) if devices.isdecimal() else devices
    asked = Asked(preset, epochs, weights, resume, device, count, nodes, adopt, prepared or pictures, out)
    with Stop() as stop:
        try:
            with steps("Pre-train") as progress:
                outcome = run_together(services, asked, progress, stop)
        except StoppedError as stopped:
            complain(stopped)
            raise typer.Exit(130) from None
    say(outcome)


def study(
    context: typer.Context,
    project: Project = "",
    out: Annotated[Path, typer.Option(help="Folder of the report; a study in it that was stopped goes on.")] = Path(
        "study"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many splits, each drawn anew.")] = 5,
    train: Annotated[int, typer.Option(min=1, help="Labelled pictures to train on.")] = 411,
    validation: Annotated[int, typer.Option(min=1, help="Labelled pictures to stop early by.")] = 157,
    test: Annotated[int, typer.Option(min=1, help="Labelled pictures to score on.")] = 216,
    versions: Annotated[
        list[str] | None, typer.Option("--version", help="A backbone that takes part beside the champion; repeatable.")
    ] = None,
    control: Annotated[str | None, typer.Option(help="Taxonomy of the labelling config; default: the first.")] = None,
    imagenet: Annotated[bool, typer.Option(help="Have ImageNet's weights take part, where they can be had.")] = True,
    fine_tune: Annotated[int, typer.Option(min=0, max=4, help="Blocks of the backbone that are trained, too.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare what backbones are worth for the labels of a project: tables, confusion matrices, learning curves."""
    require("train")
    from taxonomist.backend import study as studies  # noqa: PLC0415 - brings torch

    options = studies.StudyOptions(train=train, validation=validation, test=test, seeds=seeds)
    with steps("Study") as progress:
        result = studies.study(
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
    say(f"Report, tables and plots: {result.report}")


def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the versions of the backbone."""
    registry = services_of(context).registry
    champion, previous = registry.champion(BACKBONE), registry.previous(BACKBONE)
    rows = [_summary(version, champion) for version in registry.versions(BACKBONE)]
    if as_json:
        print_json(rows)
        return
    marks = {previous: "previous", champion: "champion"}
    table(
        "Backbones",
        ["version", "", "made", "architecture", "size", "origin"],
        [
            (
                row["version"],
                marks.get(row["version"], ""),
                row["created_at"],
                row["architecture"],
                row["size"],
                row["origin"],
            )
            for row in rows
        ],
    )


def show(context: typer.Context, version: Version, as_json: Json = False) -> None:
    """Show one version: what it was trained on and how, and where its curves are."""
    registry = services_of(context).registry
    found = registry.get(BACKBONE, version)
    registry.verify(found)
    if as_json:
        print_json({**found.manifest, "path": found.path})
        return
    fields({**_summary(found, registry.champion(BACKBONE)), "folder": found.path})
    files = [(name, about.get("size")) for name, about in found.manifest.get("files", {}).items()]
    table("Files", ["file", "bytes"], files)


def adopt(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="A version, as `backbone list` shows it.")] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Report of `pretrain --out`, which names the version.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder of prepared images that `data fetch` filled: they are not read again.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(hidden=True, help="The former name of --prepared.")] = None,
) -> None:
    """Embed all pictures by this backbone, train heads on it, and promote all if that is better."""
    require("train")
    from taxonomist.backend.pretraining import adopt as adoption  # noqa: PLC0415 - brings torch

    if (version is None) == (pretrained is None):
        raise ConfigError("Which backbone? Give a version, or --pretrained FOLDER.")
    services = services_of(context)
    found = services.registry.get(BACKBONE, version or adoption.read_report(pretrained or Path()))
    folder = prepared or pictures
    store = PreparedImageStore(folder, int(found.manifest["size"])) if folder else None
    with Stop() as stop:
        try:
            with only_one(services.settings.home), steps("Adopt") as progress:
                outcome = adoption.adopt(services, found, progress, stop, store)
        except StoppedError as stopped:
            complain(stopped)
            raise typer.Exit(130) from None
    say(outcome)


def promote(context: typer.Context, version: Version) -> None:
    """Serve this backbone from now on, and each project by the newest model that was trained on it."""
    promoted = promote_backbone(services_of(context), version)
    say(f"New images are embedded by backbone {version}.")
    for project, head in promoted.heads.items():
        say(f"Project {project} is served by {model_version_name(head)}.")
    for project in promoted.kept:
        say(f"Project {project} has no model on it and keeps its own until `taxonomist train --project {project}`.")
    say("The worker embeds the other images by it; `taxonomist embed` does so at once.")


def rollback(context: typer.Context) -> None:
    """Go back to the backbone that was served before, and to the models that came with it."""
    services = services_of(context)
    before = services.registry.champions()
    services.registry.rollback(BACKBONE)
    tell_moves(services, before)


def _summary(version: ModelVersion, champion: str | None) -> dict[str, Any]:
    manifest = version.manifest
    pretraining = manifest.get("pretraining") or {}
    return {
        "version": version.version,
        "champion": version.version == champion,
        "created_at": manifest.get("created_at"),
        "architecture": manifest.get("architecture"),
        "size": manifest.get("size"),
        "dimension": manifest.get("dimension"),
        "origin": manifest.get("origin"),
        "pictures": (pretraining.get("data") or {}).get("count"),
        **{name: pretraining.get(name) for name in ("seen", "epochs", "loss", "score", "seconds", "device")},
    }
