"""The commands about Azure: `taxonomist submit` runs the pipeline on Azure ML, `cosmos install` sets up Cosmos DB."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import print_fields, print_json, print_line
from taxonomist.backend.extras import require
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.pretraining.recipe import PRESETS

cosmos = typer.Typer(
    help="The catalogue in Azure Cosmos DB.",
    epilog="Example: `taxonomist cosmos install`",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Examples: `taxonomist submit --cpu cpu-cluster --gpu gpu-cluster --dry-run` · `taxonomist submit "
        "--subscription … --resource-group catalogue --workspace learning --cpu cpu-cluster --gpu gpu-cluster "
        '--instances 2 --gpus 4 --query "--include Furniture"`'
    )(submit)
    app.add_typer(cosmos, name="cosmos")
    cosmos.command(epilog="Example: `TAXONOMIST_COSMOS_CONNECTION_STRING=… taxonomist cosmos install`")(install)


def submit(
    context: typer.Context,
    cpu: Annotated[str, typer.Option(help="Compute cluster of the steps query, fetch and train.")],
    gpu: Annotated[str, typer.Option(help="Compute cluster of the step pretrain.")],
    subscription: Annotated[str | None, typer.Option(help="Azure subscription; --dry-run needs none.")] = None,
    resource_group: Annotated[str | None, typer.Option(help="Its resource group; --dry-run needs none.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Azure ML workspace; --dry-run needs none.")] = None,
    instances: Annotated[int, typer.Option(min=1, help="Number of machines that pre-train together.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each machine; each has its own process.")] = 1,
    query: Annotated[
        str, typer.Option(help="Options of `taxonomist data query` as one string; default: every image.")
    ] = "",
    preset: Annotated[
        str | None, typer.Option(help="Recipe of the pre-training; default: TAXONOMIST_PRETRAIN_PRESET.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images; default: the recipe's.")] = None,
    client_id: Annotated[
        str | None, typer.Option(help="Client id of a user-assigned identity; default: the identity of the clusters.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="Experiment under which Azure ML lists the job.")] = "taxonomist",
    source: Annotated[
        Path | None, typer.Option(help="Checkout of this project; default: the one that this command runs from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Validate and print the job without submitting it.")] = False,
    as_json: Json = False,
) -> None:
    """Submit the pipeline query, fetch, pretrain, train to Azure ML. Needs the extra `azureml`."""
    require("azureml")
    from taxonomist.backend.azure import ml_job  # noqa: PLC0415 - the extra azureml

    services = services_of(context)
    settings = services.settings
    _check_query(context, query)
    target = None
    if not dry_run:
        if not (subscription and resource_group and workspace):
            raise ConfigError(
                "Give --subscription, --resource-group and --workspace.",
                hint="--dry-run validates and prints the job without them.",
            )
        target = ml_job.Workspace(subscription, resource_group, workspace)
    preset = preset or settings.pretrain_preset
    options = ml_job.JobOptions(
        cpu, gpu, instances, gpus, query, preset, epochs, _size(preset, settings.image_size), client_id, experiment
    )
    environment = ml_job.steps_environment(settings)
    with tempfile.TemporaryDirectory(prefix="taxonomist-") as folder:
        held = [record.project for record in services.projects if training_hold(services, record.project)]
        projects = ml_job.write_projects(services.projects, Path(folder) / "projects", without=held)
        pipeline = ml_job.copy_source(source or ml_job.SOURCE, Path(folder) / "source")
        job = ml_job.build_job(pipeline, projects, environment, options)
        if target is None:
            text = ml_job.as_yaml(job)
            print_json({"job": text}) if as_json else print_line(text)
            return
        submitted = ml_job.submit_job(job, target)
    if as_json:
        print_json(vars(submitted))
        return
    print_fields({"job": submitted.name, "page": submitted.url})


def install(context: typer.Context, as_json: Json = False) -> None:
    """Create the database, its containers and the query function if they are missing. It can be run again."""
    require("azure")
    from taxonomist.backend.azure.accounts import install_cosmos  # noqa: PLC0415 - the extra azure

    steps = install_cosmos(services_of(context).settings)
    if as_json:
        print_json(steps)
        return
    for step in steps:
        print_line(step)


def _check_query(context: typer.Context, query: str) -> None:
    """Check the options of the query. A misspelt option would otherwise show up only after a machine has started."""
    root = context.find_root().command
    command = root.commands["data"].commands["query"]  # type: ignore[attr-defined]
    try:
        words = shlex.split(query)
    except ValueError as error:
        raise ConfigError(f"--query cannot be split as a shell does: {error}.", hint="Check its quotes.") from None
    command.make_context("data query", [*words, "--out", "query"], parent=context)


def _size(preset: str, image_size: int | None) -> int:
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset '{preset}'.", hint=f"The presets are: {', '.join(PRESETS)}.")
    return image_size or PRESETS[preset].served
