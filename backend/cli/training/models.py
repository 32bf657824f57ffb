"""The commands about models of a project: `taxonomist train`, `evaluate` and `models list|show|promote|rollback`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from taxonomist.backend.cli.options import Json, ModelArgument, Project, services_of
from taxonomist.backend.cli.output import (
    count_bar,
    print_csv,
    print_fields,
    print_json,
    print_json_lines,
    print_line,
    print_table,
    step_bar,
)
from taxonomist.backend.cli.training.result import as_document, print_result
from taxonomist.backend.extras import require, require_for_head
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.acceptance import Acceptance, count_accepted
from taxonomist.backend.prediction.evaluation import LevelScores, evaluate_manifest, table_of_images, write_images
from taxonomist.backend.retraining.announce_promotion import after_change
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.worker.training_now import train_now
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError

models = typer.Typer(
    help="List, show, promote and roll back the models of a project.",
    epilog="Example: `taxonomist models list --project 4`",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: `taxonomist train --project furniture --json`")(train)
    app.command(
        epilog="Examples: `taxonomist evaluate --project furniture --manifest unseen.csv --json` · "
        "`taxonomist evaluate --manifest unseen.csv --per-image --out answers.csv`"
    )(evaluate)
    app.add_typer(models, name="models")
    models.command("list", epilog="Example: `taxonomist models list --project 4`")(list_)
    models.command(epilog="Example: `taxonomist models show v3 --project 4`")(show)
    models.command(epilog="Example: `taxonomist models promote v2 --project 4`")(promote)
    models.command(epilog="Example: `taxonomist models rollback --project 4`")(rollback)
    models.command(epilog="Example: `taxonomist models export v3 --project 4 --output sinks`")(export)


def train(
    context: typer.Context,
    project: Project = "",
    force: Annotated[
        bool, typer.Option("--force", help="Train also when labels, settings and backbone are those of the last time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model on the accepted labels now. It is promoted unless it is clearly worse than the champion."""
    services = services_of(context)
    require_for_head(services.settings.head)
    with step_bar("Train") as progress:
        result = train_now(services, project, progress, force=force)
    if as_json:
        version = services.registry.get(registry_name(project), result.version)
        print_json(_summary(version, services.registry.champion(version.name)) | as_document(result))
        return
    print_result(result)


def evaluate(
    context: typer.Context,
    manifest: Annotated[Path, typer.Option(help="CSV with file, level1, level2, … of unseen images.")],
    project: Project = "",
    images: Annotated[Path | None, typer.Option(help="Folder of the files in the CSV.")] = None,
    per_image: Annotated[
        bool,
        typer.Option(
            "--per-image",
            help="Instead of the scores, a row for each image: label, suggestion, probability, and whether it is right "
            "at each level. It is CSV, or JSON lines with --json.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --per-image: file for the rows, beside the scores; JSON lines where its name ends in .jsonl, "
            "else CSV. One that is there is replaced."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the champion of a project level by level on unseen images; those that it has learned from are apart."""
    if out is not None and not per_image:
        raise ConfigError("--out is for the rows of --per-image.", hint=f"Give --per-image --out {out}.")
    with count_bar("Evaluating") as progress:
        scores = evaluate_manifest(services_of(context), project, manifest, images=images, advance=progress)
    if out is not None:
        write_images(out, scores.per_image)
    elif per_image and as_json:
        print_json_lines(map(asdict, scores.per_image))
        return
    elif per_image:
        print_csv(table_of_images(scores.per_image))
        return
    if as_json:
        document = asdict(replace(scores, per_image=())) | {"caveats": list(scores.caveats)}
        del document["per_image"]
        print_json(document)
        return
    if scores.images:
        _print_levels(f"{scores.model_version} on {manifest.name}, unseen images", scores.levels)
    else:
        print_line(f"{manifest.name} has no image that {scores.model_version} has not learned from.")
    if scores.learned_from is not None:
        _print_levels(
            f"{scores.model_version} on images and products that it has learned from", scores.learned_from.levels
        )
    names = ("images", "unreadable", "outside_taxonomy", "hierarchical_f1", "mean_depth")
    print_fields({name: _short(getattr(scores, name)) for name in names})
    for caveat in scores.caveats:
        print_line(caveat)
    if out is not None:
        print_line(f"written: {out}")


def _print_levels(title: str, levels: Sequence[LevelScores]) -> None:
    columns = ["level", "images", "accuracy", "macro-F1", "suggested", "precision of suggestions"]
    print_table(title, columns, [[_short(value) for value in vars(level).values()] for level in levels])


def list_(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """List the versions of a project's model."""
    registry = services_of(context).registry
    name = registry_name(project)
    champion, previous = registry.champion(name), registry.previous(name)
    rows = [_summary(version, champion) for version in registry.versions(name)]
    if as_json:
        print_json(rows)
        return
    marks = {champion: "champion", previous: "previous"}
    print_table(
        f"Models of project {project}",
        ["version", "", "created", "labels", "macro-F1", "note", "backbone"],
        [
            (
                row["version"],
                marks.get(row["version"], ""),
                str(row["created_at"] or "")[:16].replace("T", " "),
                row["labels"],
                _scores(row["macro_f1"]),
                ", ".join(row["caveats"]),
                row["backbone"],
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["reason"]:
            print_line(f"{row['version']}: {row['reason']}")


def show(context: typer.Context, version: ModelArgument, project: Project = "", as_json: Json = False) -> None:
    """Show one version: its data, scores, comparison with the champion, accepted suggestions and folder of plots."""
    services = services_of(context)
    found = services.registry.get(registry_name(project), version)
    services.registry.verify(found)
    name = model_version_name(version)
    suggestions = count_accepted(services, project).get(name, Acceptance())
    answers = services.suggestions.answer_counts(project, name)
    if as_json:
        counts = {"suggestions": asdict(suggestions), "answers": [asdict(count) for count in answers]}
        print_json({**found.manifest, "path": found.path, **counts})
        return
    summary = _summary(found, services.registry.champion(found.name))
    summary |= {"caveats": ", ".join(summary["caveats"]) or "none", "folder": found.path}
    print_fields(summary | {"accepted_suggestions": f"{suggestions.accepted} of {suggestions.shown}"})
    if answers:
        rows = [
            (count.level, "blind" if count.blind else "shown", f"{count.right} of {count.answered}")
            for count in answers
        ]
        print_table("Suggestions that accepted labels confirm", ["level", "", "right"], rows)
    if found.head_manifest.promotion and (figures := found.head_manifest.promotion.figures):
        compared: list[tuple[object, ...]] = [
            ("hierarchical F1", f"{figures.f1:.3f}", f"{figures.champion_f1:.3f}", f"{figures.t_f1:+.2f}"),
            ("log-loss", f"{figures.loss:.3f}", f"{figures.champion_loss:.3f}", f"{figures.t_loss:+.2f}"),
        ]
        if figures.learned:
            both = f"{figures.t_f1 + figures.t_loss:+.2f}, at least {figures.limit:+.2f}"
            compared.append(("images learned from", figures.learned, figures.champion_learned, both))
        print_table(
            f"The comparison, on {figures.labels} labels of {figures.products} products",
            ["", "this version", "champion", "t"],
            compared,
        )
    print_table(
        "Files",
        ["file", "bytes"],
        [(name, entry.size) for name, entry in found.files.items()],
    )


def promote(context: typer.Context, version: ModelArgument, project: Project = "") -> None:
    """Serve this version from now on, without a comparison."""
    services = services_of(context)
    before = services.registry.champions()
    services.registry.promote(registry_name(project), version)
    after_change(services, before)
    caveats = services.registry.get(registry_name(project), version).head_manifest.caveats
    note = f" ({', '.join(caveats)})" if caveats else ""
    print_line(f"Project {project} is served by {model_version_name(version)}{note}.")


def rollback(context: typer.Context, project: Project = "") -> None:
    """Go back to the version that was served before, and to its backbone if both were promoted together.

    Each further call goes one version further back.
    """
    services = services_of(context)
    before = services.registry.champions()
    services.registry.rollback(registry_name(project))
    print_changes(services, before)


def export(
    context: typer.Context,
    version: ModelArgument,
    output: Annotated[Path, typer.Option(help="New or empty folder.")],
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Write a version as ONNX, with labels, thresholds, a model card, and an example that needs no taxonomist."""
    require("train")
    from taxonomist.training.heads.export.export_model import export_model  # noqa: PLC0415 - needs the extra

    registry = services_of(context).registry
    found = registry.get(registry_name(project), version)
    backbone = registry.get(BACKBONE, found.head_manifest.backbone)
    for needed in (found, backbone):
        registry.verify(needed)
    files = export_model(found, backbone, output)
    if as_json:
        print_json({"files": files})
        return
    print_table(f"{found.name} {version} in {output}", ["file", "bytes"], [(f.name, f.stat().st_size) for f in files])
    print_line(f"Try it: python {output / 'example.py'} photo.jpg")


def print_changes(services: Services, before: Mapping[str, str]) -> None:
    """Announce and print every model and backbone whose served version is not the one in `before`."""
    changed, now = after_change(services, before), services.registry.champions()
    if now.get(BACKBONE) != before.get(BACKBONE):
        print_line(f"New images are embedded by backbone {now.get(BACKBONE)} again.")
    for project in changed:
        version = now.get(registry_name(project))
        served = f"served by {model_version_name(version)} again" if version else "served by look-alikes alone again"
        print_line(f"Project {project} is {served}.")


def _scores(by_control: Mapping[str, float]) -> str:
    if len(by_control) == 1:
        return f"{next(iter(by_control.values())):.3f}"
    return ", ".join(f"{control} {score:.3f}" for control, score in by_control.items())


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


def _summary(version: ModelVersion, champion: str | None) -> dict[str, Any]:
    manifest = version.head_manifest
    promotion = manifest.promotion
    return {
        "version": version.version,
        "model_version": model_version_name(version.version),
        "champion": version.version == champion,
        "created_at": manifest.created_at,
        "labels": manifest.data.count if manifest.data else None,
        "left_out": manifest.data.left_out if manifest.data else None,
        "macro_f1": {control: round(metrics.macro_f1, 4) for control, metrics in manifest.metrics.items()},
        "caveats": list(manifest.caveats),
        "test_images": manifest.tested.images if manifest.tested else None,
        "backbone": manifest.backbone,
        "promoted": promotion.promoted if promotion else None,
        "reason": promotion.reason if promotion else None,
        "duration_s": manifest.duration_s,
    }
