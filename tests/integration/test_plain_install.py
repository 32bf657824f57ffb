"""The plain install, without torch and without Azure's packages: server and worker run in an environment of their own,
on a home whose backbone and head were trained elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.demo.environment import silent
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.backend.web.app import create_app
from tests.backend_process import BackendProcess
from tests.environment import ROOT, plain_install
from tests.small_world import CONFIG, image_bytes
from tests.waiting import eventually

pytestmark = pytest.mark.slow
PACKAGES = ("src", "backend", "training", "inference", "storage", "taxonomy")


@pytest.fixture(scope="module")
def python() -> Path:
    return plain_install(silent)


@pytest.fixture(scope="module")
def site(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the project that `pip install .` installs, in a separate folder."""
    folder = tmp_path_factory.mktemp("install")
    for name in PACKAGES:  # copied, since a build leaves files beside the source
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder / "site")]
    subprocess.run([python, "-m", "pip", "install", *options, str(folder / "source")], check=True, env={})
    return folder / "site"


@pytest.fixture
def server(python: Path, site: Path, trained: Services) -> Iterator[BackendProcess]:
    """Return a server whose settings name a head that needs torch."""
    variables = {"PYTHONPATH": str(site), "TAXONOMIST_HEAD": "mlp"}
    program = (str(python), "-P", "-m", "taxonomist")
    with BackendProcess(trained.settings.home, program=program, variables=variables) as running:
        yield running


def finished(services: Services, job: Job) -> Job:
    """Return the job once the worker has finished it."""

    def look() -> Job | None:
        found = next(latest for latest in services.jobs.latest(job.project) if latest.id == job.id)
        return found if found.state in {JobState.DONE, JobState.FAILED} else None

    return eventually(f"{job.kind} ends", look)


def test_nothing_of_the_extras_is_installed(python: Path) -> None:
    modules = ("torch", "lightning", "lightly", "sklearn", "matplotlib", "onnx", "azure", "aiohttp")
    code = f"from importlib.util import find_spec; print([name for name in {modules} if find_spec(name)])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_predicts_what_the_training_machine_predicts(server: BackendProcess, trained: Services) -> None:
    documents = list(trained.catalog.documents("7"))[:6]
    tasks = [
        {"id": n, "data": {"image": document.projects["7"].uri}, "project": 7} for n, document in enumerate(documents)
    ]
    body = {"tasks": tasks, "project": "7.1795531934", "label_config": CONFIG, "params": {}}
    answer = httpx.post(f"{server.url}/predict", json=body, timeout=60, trust_env=False).raise_for_status()
    ours = create_app(trained.settings, trained).test_client().post("/predict", json=body).get_json()
    assert answer.json() == ours
    assert all(result["result"] for result in ours["results"])


def test_its_worker_embeds_and_says_what_training_needs(
    server: BackendProcess, trained: Services, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    (new / "images").mkdir(parents=True)
    (new / "images" / "new.jpg").write_bytes(image_bytes(("Cold", "Blue"), 999))
    (new / "manifest.csv").write_text("file,level1,level2\nnew.jpg,Cold,Blue\n")
    server.command("import", str(new / "manifest.csv"), "--project", "8")

    pretraining = finished(trained, trained.jobs.enqueue(JobKind.PRETRAIN, reason="a test"))
    training = finished(trained, trained.jobs.enqueue(JobKind.TRAIN, "7", "a test"))
    for job in (pretraining, training):
        assert job.state is JobState.FAILED
        assert "pip install 'label-studio-taxonomist[train]'" in job.outcome
    embedding = finished(trained, trained.jobs.enqueue(JobKind.EMBED, "8", "a test"))
    assert (embedding.state, embedding.outcome[:24]) == (JobState.DONE, "1 of 1 images have an em")
    assert httpx.get(f"{server.url}/readyz", timeout=10, trust_env=False).is_success


def test_it_trains_a_discriminant(python: Path, site: Path, trained: Services) -> None:
    program = (str(python), "-P", "-m", "taxonomist")
    variables = {"PYTHONPATH": str(site)}
    backend = BackendProcess(trained.settings.home, program=program, variables=variables)
    backend.command("train", "--project", "7", "--force")
    version = trained.registry.versions("project-7")[-1]
    assert version.head_manifest.settings["kind"] == "lda"
    assert "Nothing is plotted" in (version.path / "report.md").read_text()


def test_a_new_home_begins_with_the_starter(python: Path, site: Path, tmp_path: Path) -> None:
    program = (str(python), "-P", "-m", "taxonomist")
    with BackendProcess(tmp_path / "home", program=program, variables={"PYTHONPATH": str(site)}):
        services = Services(Settings(home=tmp_path / "home"))
        eventually("the worker publishes the starter", lambda: services.registry.champion("backbone"))
    backbone = services.backbone()
    assert backbone is not None
    assert backbone.manifest["starter"]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "--project", "7"), "train"),
        (("pretrain",), "train"),
        (("study", "--project", "7"), "train"),
        (("backbone", "adopt", "v1"), "train"),
        (("cosmos", "install"), "azure"),
        (("submit", "--cpu", "a", "--gpu", "b", "--dry-run"), "azureml"),
    ],
)
def test_commands_name_the_extra_that_they_need(
    python: Path, site: Path, trained: Services, arguments: tuple[str, ...], extra: str
) -> None:
    variables = {"PYTHONPATH": str(site), "TAXONOMIST_HOME": str(trained.settings.home), "TAXONOMIST_HEAD": "mlp"}
    command = [str(python), "-P", "-m", "taxonomist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=trained.settings.home)
    assert done.returncode == 2
    assert f"pip install 'label-studio-taxonomist[{extra}]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
