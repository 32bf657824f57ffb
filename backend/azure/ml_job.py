"""The pipeline of `deploy/azureml` as a job of Azure ML: made from the settings, validated, sent.

Nothing secret goes into it. The steps reach Cosmos DB and Blob Storage as the managed identity of the compute.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from taxonomist.backend.extras import require
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.project_records import ProjectRecords
from taxonomist.taxonomy.errors import AuthError, ConfigError, StorageError

if TYPE_CHECKING:  # the extra `azureml`
    from azure.ai.ml.entities import PipelineJob

SOURCE = Path(__file__).resolve().parents[2]
PIPELINE = Path("deploy") / "azureml" / "pipeline.yaml"
STEPS = ("query", "fetch", "pretrain", "train")
# What a job gets of the source folder, as .amlignore has it for `az ml`.
SNAPSHOT = ("pyproject.toml", "README.md", "LICENSE", "src", "deploy/azureml")
# Settings that the steps need, too. Others are about this machine, about Label Studio, or secret.
_PASSED = (
    *("cosmos_endpoint", "cosmos_database", "cosmos_containers", "azure_timeout"),
    *("blob_account_url", "blob_containers", "models_container", "allowed_image_hosts"),
    *("max_image_bytes", "max_image_pixels", "image_timeout", "allow_private"),
    *("min_annotators", "min_agreement", "require_review", "skips_as"),
    *("backbone", "views", "imbalance", "head_hidden", "head_epochs", "test_share", "validation_share", "seed"),
    "target_precision",
)
_NEEDED = ("cosmos_endpoint", "blob_account_url", "models_container")


@dataclass(frozen=True)
class JobOptions:
    """What one run of the pipeline is to be. `query` has options of `taxonomist data query`, as a shell takes them;
    `client_id` is that of a user-assigned identity of both clusters. `size` is the side of pictures in pixels."""

    cpu: str
    gpu: str
    instances: int = 1
    gpus: int = 1
    query: str = ""
    preset: str = "default"
    epochs: int | None = None
    size: int = 160
    client_id: str | None = None
    experiment: str = "taxonomist"


@dataclass(frozen=True)
class Workspace:
    """A workspace of Azure ML."""

    subscription: str
    resource_group: str
    name: str


@dataclass(frozen=True)
class Sent:
    """A job that Azure ML has taken: its name, and where a browser shows it."""

    name: str
    url: str | None


def steps_environment(settings: Settings) -> dict[str, str]:
    """The environment variables of the steps: the settings that were set here and that matter there.

    Raises `ConfigError` when one is missing without which the steps would find nothing.
    """
    missing = [f"TAXONOMIST_{name.upper()}" for name in _NEEDED if not getattr(settings, name)]
    if missing:
        raise ConfigError(
            f"The steps need {', '.join(missing)}.",
            hint="They sign in as the compute's managed identity: keys and connection strings are not sent.",
        )
    values = {name: getattr(settings, name) for name in _PASSED if name in settings.model_fields_set}
    assert not any(isinstance(value, SecretStr) for value in values.values())
    return {f"TAXONOMIST_{name.upper()}": _as_text(value) for name, value in values.items() if value is not None}


def stage(source: Path, folder: Path) -> Path:
    """Copy the code that a job needs into the folder, and nothing else of the source; returns the pipeline's file.

    Raises `ConfigError` when that is no checkout of the project.
    """
    if not (source / PIPELINE).is_file():
        raise ConfigError(
            f"There is no {PIPELINE} in {source}.", hint="Give --source FOLDER, a checkout of this project."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in SNAPSHOT:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / name, folder / name)
    shutil.copyfile(source / ".amlignore", folder / ".amlignore")
    return folder / PIPELINE


def write_projects(records: ProjectRecords, folder: Path) -> Path:
    """What the steps must know of each project: its taxonomy, no token and no address. Returns the folder.

    The rule that labels were decided by stays out: in a step there is no journal to decide them anew from. Raises
    `ConfigError` when no project is known.
    """
    copy = ProjectRecords(folder)
    known = [record for record in records if record.label_config]
    for record in known:
        copy.update(record.project, label_config=record.label_config, created=record.created)
    if not known:
        raise ConfigError("No project is known here.", hint="Connect one, or import a catalogue.")
    (folder / ".lock").unlink(missing_ok=True)
    return folder


def build_job(pipeline: Path, projects: Path, environment: Mapping[str, str], options: JobOptions) -> PipelineJob:
    """The job, validated as far as that is possible without Azure.

    Raises `ConfigError` that says what is wrong, or that azure-ai-ml is not installed.
    """
    with _azure_ml() as azure:
        # azure-ai-ml reads files by marshmallow.
        from marshmallow.exceptions import ValidationError  # noqa: PLC0415 - the extra azureml

        try:
            job: PipelineJob = azure.load_job(pipeline, params_override=_overrides(projects, environment, options))
            # A pipeline does not look into the commands of its components.
            results = [each._validate() for each in (job, *(step.component for step in job.jobs.values()))]
        except (azure.exceptions.ValidationException, ValidationError) as error:
            raise ConfigError(f"Azure ML does not take {pipeline.name}: {error}") from None
    wrong = [result.error_messages for result in results if not result.passed]
    if wrong:
        raise ConfigError(f"Azure ML does not take the job: {json.dumps(wrong)}")
    return job


def as_yaml(job: PipelineJob) -> str:
    """The job in the form that `az ml job create` takes."""
    with _azure_ml():
        text = io.StringIO()
        job.dump(text)
    return text.getvalue()


def send(job: PipelineJob, workspace: Workspace) -> Sent:
    """Have Azure ML run the job; uploads the code. No telemetry is sent.

    Raises `AuthError` when Azure refuses, `StorageError` when it fails.
    """
    with _azure_ml() as azure:
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415 - the extra azureml
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - the extra azureml

        from taxonomist.storage.azure.retry_policy import brief, status_of  # noqa: PLC0415 - the extra azureml

        try:
            with DefaultAzureCredential() as credential:
                place = (workspace.subscription, workspace.resource_group, workspace.name)
                client = azure.MLClient(credential, *place, enable_telemetry=False)
                sent = client.jobs.create_or_update(job)
        except AzureError as error:
            if isinstance(error, ClientAuthenticationError) or status_of(error) in {401, 403}:
                raise AuthError(
                    f"Azure refuses the job ({brief(error)}).",
                    hint=f"`az login`, and the role AzureML Data Scientist on the workspace {workspace.name}.",
                ) from error
            raise StorageError(
                f"Azure ML did not take the job ({brief(error)}).",
                hint="Are the workspace and both compute clusters there?",
            ) from error
    return Sent(str(sent.name), sent.studio_url)


def _overrides(projects: Path, environment: Mapping[str, str], options: JobOptions) -> list[dict[str, Any]]:
    values: dict[str, Any] = {
        "experiment_name": options.experiment,
        "settings.default_compute": f"azureml:{options.cpu}",
        "inputs.projects.path": str(projects),
        "inputs.size": options.size,
        "inputs.preset": options.preset,
        "jobs.pretrain.compute": f"azureml:{options.gpu}",
        "jobs.pretrain.resources.instance_count": options.instances,
        "jobs.pretrain.distribution.process_count_per_instance": options.gpus,
    }
    if options.query:
        values["jobs.query.inputs"] = {"options": options.query}
    if options.epochs is not None:
        values["jobs.pretrain.inputs.epochs"] = options.epochs
    identity = {"type": "managed"} | ({"client_id": options.client_id} if options.client_id else {})
    own = {"AZURE_CLIENT_ID": options.client_id} if options.client_id else {}
    for step in STEPS:
        values[f"jobs.{step}.environment_variables"] = {**environment, **own}
        values[f"jobs.{step}.identity"] = identity
    return [{name: value} for name, value in values.items()]


@contextmanager
def _azure_ml() -> Iterator[Any]:
    """The package azure.ai.ml; its warnings are for its makers. Raises `ConfigError` when it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require("azureml")
        import azure.ai.ml  # noqa: PLC0415 - the extra azureml
        import azure.ai.ml.exceptions  # noqa: PLC0415 - the extra azureml

        logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # the import has set another
        yield azure.ai.ml


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
