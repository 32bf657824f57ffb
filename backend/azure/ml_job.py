"""The pipeline of `deploy/azureml` as a job of Azure ML: built from the settings, validated and submitted.

The job contains no secrets. Its steps sign in to Cosmos DB and Blob Storage as the managed identity of the compute.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from taxonomist.backend.extras import require
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.project_records import ProjectRecords
from taxonomist.storage.network.certificates import bundle_for_requests, untrusted
from taxonomist.taxonomy.errors import AuthError, ConfigError, StorageError

if TYPE_CHECKING:  # the extra `azureml`
    from azure.ai.ml.entities import PipelineJob

SOURCE = Path(__file__).resolve().parents[2]
PIPELINE = Path("deploy") / "azureml" / "pipeline.yaml"
STEPS = ("query", "fetch", "pretrain", "train")
# The part of the checkout that a job gets. .amlignore says the same to `az ml`.
SNAPSHOT = ("pyproject.toml", "README.md", "LICENSE", "src", "deploy/azureml")
# Settings that the steps need, too. The others concern this machine or Label Studio, or are secret.
_PASSED_SETTINGS = (
    *("cosmos_endpoint", "cosmos_database", "cosmos_containers", "azure_timeout"),
    *("blob_account_url", "blob_containers", "models_container", "allowed_image_hosts"),
    *("max_image_bytes", "max_image_pixels", "image_timeout", "allow_private"),
    *("min_annotators", "agreement", "min_agreement", "require_review", "skips_as"),
    *("backbone", "views", "imbalance", "head", "head_hidden", "head_epochs", "test_share", "validation_share", "seed"),
    *("target_precision", "promise", "pretrain_precision"),
)
_REQUIRED_SETTINGS = ("cosmos_endpoint", "blob_account_url", "models_container")


@dataclass(frozen=True)
class JobOptions:
    """Options of one run of the pipeline.

    `cpu` and `gpu` name compute clusters. `instances` is the number of machines that pre-train, `gpus` the number of
    GPUs of each. `query` has options of `taxonomist data query` in shell syntax. `size` is the side of the prepared
    images in pixels. `client_id` is that of a user-assigned identity of both clusters.
    """

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
class SubmittedJob:
    """A job that Azure ML has accepted: its name, and its page in Azure ML studio."""

    name: str
    url: str | None


def steps_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables of the steps: those settings that are set here and that the steps use.

    Raises `ConfigError` when a setting is missing that names the documents, the images or the models.
    """
    missing = [f"TAXONOMIST_{name.upper()}" for name in _REQUIRED_SETTINGS if not getattr(settings, name)]
    if missing:
        raise ConfigError(
            f"The steps need {', '.join(missing)}.",
            hint="They sign in as the compute's managed identity: keys and connection strings are not sent.",
        )
    values = {name: getattr(settings, name) for name in _PASSED_SETTINGS if name in settings.model_fields_set}
    assert not any(isinstance(value, SecretStr) for value in values.values())
    return {f"TAXONOMIST_{name.upper()}": _as_text(value) for name, value in values.items() if value is not None}


def copy_source(source: Path, folder: Path) -> Path:
    """Copy only the code that a job needs from a checkout into the folder; return the path of the pipeline file.

    Raises `ConfigError` when `source` is not a checkout of this project.
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


def write_projects(records: ProjectRecords, folder: Path, *, without: Collection[str] = ()) -> Path:
    """Write for each project what the steps need: its taxonomy, without token and address. Return the folder.

    The rule by which labels were decided (`decided_with`) is not copied: a step has no journal from which it could
    decide them again. The projects in `without`, whose training waits for a person, keep their models: the steps do not
    know them. Raises `ConfigError` when no project has a labelling config.
    """
    copy = ProjectRecords(folder)
    known = [record for record in records if record.label_config and record.project not in without]
    for record in known:
        copy.update(record.project, label_config=record.label_config, created=record.created)
    if not known and without:
        raise ConfigError(
            f"The training of {', '.join(without)} waits for a person's decision, and no other project is known.",
            hint="`taxonomist status` says why.",
        )
    if not known:
        raise ConfigError("No project is known.", hint="Run `taxonomist connect` or `taxonomist import` first.")
    (folder / ".lock").unlink(missing_ok=True)
    return folder


def build_job(pipeline: Path, projects: Path, environment: Mapping[str, str], options: JobOptions) -> PipelineJob:
    """Return the job, validated as far as that is possible without a connection to Azure.

    Raises `ConfigError` when the job is not valid or azure-ai-ml is not installed.
    """
    with _azure_ml() as azure:
        # azure-ai-ml reads files with marshmallow.
        from marshmallow.exceptions import ValidationError  # noqa: PLC0415 - the extra azureml

        try:
            job: PipelineJob = azure.load_job(pipeline, params_override=_overrides(projects, environment, options))
            # A pipeline does not validate the commands of its components.
            results = [part._validate() for part in (job, *(step.component for step in job.jobs.values()))]
        except (azure.exceptions.ValidationException, ValidationError) as error:
            raise ConfigError(f"Azure ML rejects {pipeline.name}: {error}") from None
    messages = [result.error_messages for result in results if not result.passed]
    if messages:
        raise ConfigError(f"Azure ML rejects the job: {json.dumps(messages)}")
    return job


def as_yaml(job: PipelineJob) -> str:
    """Return the job in the YAML format of `az ml job create`."""
    with _azure_ml():
        text = io.StringIO()
        job.dump(text)
    return text.getvalue()


def submit_job(job: PipelineJob, workspace: Workspace) -> SubmittedJob:
    """Upload the code and submit the job to Azure ML. No telemetry is sent.

    Raises `AuthError` when Azure denies access and `StorageError` for any other failure.
    """
    with _azure_ml() as azure:
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415 - the extra azureml
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - the extra azureml

        from taxonomist.storage.azure.retry_policy import brief, status_of  # noqa: PLC0415 - the extra azureml

        try:
            with bundle_for_requests(), DefaultAzureCredential() as credential:
                client = azure.MLClient(
                    credential,
                    workspace.subscription,
                    workspace.resource_group,
                    workspace.name,
                    enable_telemetry=False,
                )
                submitted = client.jobs.create_or_update(job)
        except AzureError as error:
            if isinstance(error, ClientAuthenticationError) or status_of(error) in {401, 403}:
                raise AuthError(
                    f"Azure denies access ({brief(error)}).",
                    hint=f"Run `az login`. You need the role AzureML Data Scientist on the workspace {workspace.name}.",
                ) from error
            if refused := untrusted(error):
                raise StorageError(f"Azure ML did not accept the job: {refused[0]}.", hint=refused[1]) from error
            raise StorageError(
                f"Azure ML did not accept the job ({brief(error)}).",
                hint="Check that the workspace and both compute clusters exist.",
            ) from error
    return SubmittedJob(str(submitted.name), submitted.studio_url)


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
    sign_in = {"AZURE_CLIENT_ID": options.client_id} if options.client_id else {}
    for step in STEPS:
        values[f"jobs.{step}.environment_variables"] = {**environment, **sign_in}
        values[f"jobs.{step}.identity"] = identity
    return [{name: value} for name, value in values.items()]


@contextmanager
def _azure_ml() -> Iterator[Any]:
    """Yield the module azure.ai.ml with its warnings off: they are for developers. Raises `ConfigError` without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require("azureml")
        import azure.ai.ml  # noqa: PLC0415 - the extra azureml
        import azure.ai.ml.exceptions  # noqa: PLC0415 - the extra azureml

        logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # the import sets another level
        yield azure.ai.ml


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
