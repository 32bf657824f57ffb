"""The job for Azure ML that is made of the settings, sent, and shown by the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import SecretStr

from taxonomist.backend.azure import ml_job
from taxonomist.backend.azure.ml_job import PIPELINE, SOURCE, STEPS, JobOptions, SubmittedJob, Workspace
from taxonomist.backend.cli import main
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.project_records import ProjectRecords
from taxonomist.taxonomy.errors import AuthError, ConfigError, StorageError
from tests.present import present
from tests.small_world import CONFIG

SECRET = "do-not-tell"
OPTIONS = JobOptions(cpu="small", gpu="large")
ENVIRONMENT = {"TAXONOMIST_MODELS_CONTAINER": "models"}
WORKSPACE = Workspace("00000000-0000-0000-0000-000000000000", "images", "learning")
# azure-ai-ml and marshmallow emit deprecation warnings about each other.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        cosmos_endpoint="https://images.documents.azure.com:443",
        cosmos_key=SecretStr(SECRET),
        cosmos_containers=["images", "more"],
        blob_account_url="https://images.blob.core.windows.net",
        models_container="models",
        label_studio_api_key=SecretStr(SECRET),
        password=SecretStr(SECRET),
        min_annotators=3,
        require_review=True,
    )


@pytest.fixture
def projects(tmp_path: Path, settings: Settings) -> Path:
    services = Services(settings)
    services.journal.pending()  # labels were decided, so there is one
    services.projects.update(
        "7", label_config=CONFIG, api_key=SecretStr(SECRET), label_studio_url="http://localhost", decided_with="a rule"
    )
    services.projects.update("8", api_key=SecretStr(SECRET))  # connected, and nothing is known of it yet
    return ml_job.write_projects(services.projects, tmp_path / "projects")


def test_settings_become_environment_and_secrets_do_not(settings: Settings) -> None:
    assert ml_job.steps_environment(settings) == {
        "TAXONOMIST_COSMOS_ENDPOINT": "https://images.documents.azure.com:443",
        "TAXONOMIST_COSMOS_CONTAINERS": '["images", "more"]',
        "TAXONOMIST_BLOB_ACCOUNT_URL": "https://images.blob.core.windows.net",
        "TAXONOMIST_MODELS_CONTAINER": "models",
        "TAXONOMIST_MIN_ANNOTATORS": "3",
        "TAXONOMIST_REQUIRE_REVIEW": "true",
    }
    for name in ml_job._PASSED_SETTINGS:
        assert "SecretStr" not in str(Settings.model_fields[name].annotation)


def test_settings_come_back_in_the_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ml_job.steps_environment(settings).items():
        monkeypatch.setenv(name, value)
    in_step = Settings()
    for name in ("cosmos_endpoint", "cosmos_containers", "models_container", "agreement"):
        assert getattr(in_step, name) == getattr(settings, name)
    assert in_step.cosmos_key is None


@pytest.mark.parametrize("name", ["cosmos_endpoint", "blob_account_url", "models_container"])
def test_a_missing_required_setting_is_an_error(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"TAXONOMIST_{name.upper()}\b.*keys and connection strings are not sent"):
        ml_job.steps_environment(settings.model_copy(update={name: None}))


def test_projects_go_without_tokens_and_without_the_rule_of_their_labels(projects: Path) -> None:
    (record,) = ProjectRecords(projects)
    assert (record.project, record.label_config) == ("7", CONFIG)
    assert (record.api_key, record.label_studio_url, record.decided_with) == (None, None, None)
    assert {path.name for path in projects.iterdir()} == {"7.json"}
    with pytest.raises(ConfigError, match="No project"):
        ml_job.write_projects(ProjectRecords(projects / "none"), projects / "copy")


def test_a_project_whose_training_waits_for_a_person_is_left_out(services: Services, tmp_path: Path) -> None:
    for name in ("7", "8"):
        services.projects.update(name, label_config=CONFIG)
    folder = ml_job.write_projects(services.projects, tmp_path / "projects", without=["7"])
    assert [record.project for record in ProjectRecords(folder)] == ["8"]
    with pytest.raises(ConfigError, match="training of 7, 8 waits for a person"):
        ml_job.write_projects(services.projects, tmp_path / "none", without=["7", "8"])


def test_machines_and_their_gpus(projects: Path) -> None:
    options = JobOptions(cpu="small", gpu="large", instances=2, gpus=4, epochs=7, query="--labelled", client_id="me")
    job = ml_job.build_job(SOURCE / PIPELINE, projects, ENVIRONMENT, options)
    pretrain = job.jobs["pretrain"]
    assert (pretrain.distribution.type, pretrain.distribution.process_count_per_instance) == ("pytorch", 4)
    assert (pretrain.resources.instance_count, pretrain.resources.shm_size) == (2, "8g")
    assert (pretrain.compute, present(job.settings).default_compute) == ("large", "small")
    assert pretrain.inputs["epochs"]._data == 7
    assert job.jobs["query"].inputs["options"]._data == "--labelled"
    for step in STEPS:
        assert job.jobs[step].environment_variables == {**ENVIRONMENT, "AZURE_CLIENT_ID": "me"}
        assert job.jobs[step].identity.client_id == "me"
        assert job.jobs[step].distribution is None or step == "pretrain"


def test_a_pipeline_that_azure_ml_rejects_is_an_error(projects: Path, tmp_path: Path) -> None:
    copy = ml_job.copy_source(SOURCE, tmp_path / "copy")
    copy.write_text(copy.read_text().replace("component: query.yaml", "component: nothing.yaml"))
    with pytest.raises(ConfigError, match="rejects"):
        ml_job.build_job(copy, projects, ENVIRONMENT, OPTIONS)
    missing = copy.with_name("fetch.yaml")
    missing.write_text(missing.read_text().replace("${{inputs.size}}", "${{inputs.sighs}}"))
    copy.write_text((SOURCE / PIPELINE).read_text())
    with pytest.raises(ConfigError, match="sighs"):
        ml_job.build_job(copy, projects, ENVIRONMENT, OPTIONS)


class Client:
    """Replaces the client of azure-ai-ml, which needs Azure."""

    made: ClassVar[tuple[Any, ...]] = ()
    options: ClassVar[dict[str, Any]] = {}
    sent: ClassVar[list[Any]] = []
    error: ClassVar[Exception | None] = None

    def __init__(self, credential: object, *place: str, **options: Any) -> None:
        Client.made, Client.options = place, options
        self.jobs = self

    def create_or_update(self, job: Any) -> Any:
        if Client.error:
            raise Client.error
        job.name, Client.sent = "sent", [job]
        return job


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    import azure.ai.ml

    monkeypatch.setattr(azure.ai.ml, "MLClient", Client)
    monkeypatch.setattr(Client, "error", None)
    return Client


def test_the_job_is_sent_without_telemetry(projects: Path, client: type[Client]) -> None:
    job = ml_job.build_job(SOURCE / PIPELINE, projects, ENVIRONMENT, OPTIONS)
    assert ml_job.submit_job(job, WORKSPACE) == SubmittedJob("sent", None)
    assert client.sent == [job]
    assert client.made == (WORKSPACE.subscription, "images", "learning")
    assert client.options == {"enable_telemetry": False}


@pytest.mark.parametrize(("status", "kind"), [(403, AuthError), (404, StorageError), (None, StorageError)])
def test_a_refusal_is_reported_without_addresses(
    projects: Path, client: type[Client], monkeypatch: pytest.MonkeyPatch, status: int | None, kind: type[Exception]
) -> None:
    from azure.core.exceptions import HttpResponseError, ServiceRequestError

    text = f"https://images.blob.core.windows.net/code?sig={SECRET}"
    error = HttpResponseError(text) if status else ServiceRequestError(text)
    if isinstance(error, HttpResponseError):
        error.status_code = status
    monkeypatch.setattr(client, "error", error)
    job = ml_job.build_job(SOURCE / PIPELINE, projects, ENVIRONMENT, OPTIONS)
    with pytest.raises(kind) as raised:
        ml_job.submit_job(job, WORKSPACE)
    assert SECRET not in str(raised.value)


def test_without_the_extra_the_error_names_it(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.ai.ml", None)
    with pytest.raises(ConfigError, match=r"azure\.ai\.ml.*taxonomist\[azureml\]"):
        ml_job.build_job(SOURCE / PIPELINE, projects, ENVIRONMENT, OPTIONS)


def submit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    given = {**ml_job.steps_environment(settings), "TAXONOMIST_COSMOS_KEY": SECRET, "TAXONOMIST_PASSWORD": SECRET}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    clusters = ["--cpu", "small", "--gpu", "large"]
    monkeypatch.setattr(sys, "argv", ["taxonomist", "--home", str(settings.home), "submit", *clusters, *words])
    with pytest.raises(SystemExit) as end:
        main()
    return (end.value.code or 0, *capsys.readouterr())  # type: ignore[return-value]


@pytest.mark.usefixtures("projects")
def test_a_dry_run_prints_the_job(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--instances", "2", "--gpus", "4", "--query", "--include 'Garden chairs'", "--preset", "cpu", "--dry-run"]
    code, out, err = submit(settings, monkeypatch, capsys, *words)
    assert code == 0, err
    assert SECRET not in out
    job = yaml.safe_load(out)
    pretrain = job["jobs"]["pretrain"]
    assert pretrain["distribution"] == {"type": "pytorch", "process_count_per_instance": 4}
    assert pretrain["resources"]["instance_count"] == 2
    assert job["jobs"]["query"]["inputs"]["options"] == "--include 'Garden chairs'"
    assert job["inputs"]["size"] == 160  # of that preset
    assert job["settings"]["default_compute"] == "azureml:small"
    assert pretrain["environment_variables"]["TAXONOMIST_MIN_ANNOTATORS"] == "3"


@pytest.mark.usefixtures("projects")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--query", "--inclued x"], "No such option"),
        (["--dry-run", "--query", "--include 'x"], "quotes"),
        (["--dry-run", "--preset", "best"], "no preset 'best'"),
        ([], "--workspace"),
    ],
)
def test_wrong_options_are_reported(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    code, _, err = submit(settings, monkeypatch, capsys, *words)
    assert code == 2
    assert message in err
