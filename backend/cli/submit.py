"""The command that sends the pipeline to Azure ML: submit."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.azure import ml_job as azureml
from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import fields, print_json, say
from taxonomist.backend.extras import require
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.pretraining.recipe import PRESETS


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `taxonomist submit --cpu cpu-cluster --gpu gpu-cluster --dry-run` · `taxonomist submit "
        "--subscription … --resource-group pictures --workspace learning --cpu cpu-cluster --gpu gpu-cluster "
        '--instances 2 --gpus 4 --query "--include Furniture"`'
    )(submit)


def submit(
    context: typer.Context,
    cpu: Annotated[str, typer.Option(help="Compute cluster for the steps query, fetch and train.")],
    gpu: Annotated[str, typer.Option(help="Compute cluster for the step pretrain.")],
    subscription: Annotated[str | None, typer.Option(help="Id of the Azure subscription.")] = None,
    resource_group: Annotated[str | None, typer.Option(help="Resource group of the workspace.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Workspace of Azure ML.")] = None,
    instances: Annotated[int, typer.Option(min=1, help="Machines that pre-train together.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each of them, one process for each.")] = 1,
    query: Annotated[
        str, typer.Option(help="Options of `taxonomist data query` in one text; default: every picture.")
    ] = "",
    preset: Annotated[
        str | None, typer.Option(help="Recipe of the pre-training; default: the setting pretrain_preset.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the pictures; default: the recipe's.")] = None,
    client_id: Annotated[
        str | None, typer.Option(help="Client id of a user-assigned identity; default: the clusters' own.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="Name under which Azure ML lists the job.")] = "taxonomist",
    source: Annotated[
        Path | None, typer.Option(help="Checkout of this project; default: where this runs from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Validate and print the job, send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send the pipeline query, fetch, pretrain, train to Azure ML. It needs the extra `azureml`."""
    require("azureml")
    services = services_of(context)
    settings = services.settings
    _check_query(context, query)
    place = None
    if not dry_run:
        if not (subscription and resource_group and workspace):
            raise ConfigError("Give --subscription, --resource-group and --workspace.", hint="Or only look: --dry-run.")
        place = azureml.Workspace(subscription, resource_group, workspace)
    preset = preset or settings.pretrain_preset
    options = azureml.JobOptions(
        cpu, gpu, instances, gpus, query, preset, epochs, _size(preset, settings.image_size), client_id, experiment
    )
    environment = azureml.steps_environment(settings)
    with tempfile.TemporaryDirectory(prefix="taxonomist-") as folder:
        projects = azureml.write_projects(services.projects, Path(folder) / "projects")
        pipeline = azureml.stage(source or azureml.SOURCE, Path(folder) / "source")
        job = azureml.build_job(pipeline, projects, environment, options)
        if place is None:
            text = azureml.as_yaml(job)
            print_json({"job": text}) if as_json else say(text)
            return
        sent = azureml.send(job, place)
    if as_json:
        print_json(vars(sent))
        return
    fields({"job": sent.name, "shown at": sent.url})


def _check_query(context: typer.Context, query: str) -> None:
    """A misspelt option is to be told here, and not by a machine that was started for it."""
    root = context.find_root().command
    command = root.commands["data"].commands["query"]  # type: ignore[attr-defined]
    try:
        words = shlex.split(query)
    except ValueError as error:
        raise ConfigError(f"The query cannot be read as a shell would: {error}.", hint="Look at its quotes.") from None
    command.make_context("data query", [*words, "--out", "query"], parent=context)


def _size(preset: str, image_size: int | None) -> int:
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset '{preset}'.", hint=f"There are: {', '.join(PRESETS)}.")
    return image_size or PRESETS[preset].served
