"""`taxonomist forget --project`: the project and what only it used go; what another one uses stays."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taxonomist.backend.forgetting.plan import known_projects
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.credentials import LOOK_ALIKES, THUMBNAIL
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.storage.catalog import image_id
from tests.backend.cli.conftest import Run, run_json
from tests.backend.forgetting.conftest import traces
from tests.backend.web.test_app import client_of, predict
from tests.small_world import CONFIG

ROOT = Path(__file__).parents[3]
NAMES = ["0003.jpg", "0042.jpg"]


def manifest_of(services: Services) -> Path:
    """Return the manifest that the project was imported from."""
    first = next(services.catalog.documents("7"))
    return Path(first.projects["7"].uri).parents[1] / "manifest.csv"


def state(home: Path) -> dict[str, str]:
    """Return the hash of each file whose content means something."""
    return {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", "lock"))
    }


def test_everything_of_a_project_goes(trained: Services, run: Run) -> None:
    home = trained.settings.home
    trained.jobs.enqueue(JobKind.TRAIN, "7")
    trained.unfilled.add("7", ["5"], asked=True)
    trained.suggestions.add("7", [StoredSuggestion("5", "colour", "taxonomist-v1", "x-0003.jpg", ("Warm",), 0.9, 1.0)])
    assert traces(home, NAMES)
    code, out, err = run("forget", "--project", "7", "--yes")
    assert code == 0, err
    assert "Project 7 is forgotten." in out
    assert traces(home, NAMES) == []
    assert known_projects(Services(trained.settings)) == []
    fresh = Services(trained.settings)
    assert fresh.registry.versions(registry_name("7")) == []
    assert fresh.registry.champion(BACKBONE) == "v1"
    assert (fresh.jobs.count("7"), fresh.unfilled.count("7"), fresh.suggestions.count("7")) == (0, 0, 0)
    assert len(fresh.embeddings("v1")) == 0
    code, _, err = run("forget", "--project", "7", "--yes")
    assert code == 4
    assert "Project 7 is not known." in err


def test_a_dry_run_counts_and_changes_nothing(trained: Services, run: Run) -> None:
    assert trained.unfilled.count("7") == trained.suggestions.count("7") == 0  # makes their tables
    before = state(trained.settings.home)
    found = run_json(run, "forget", "--project", "7", "--dry-run")
    goes = found["goes"]
    assert (goes["images"], goes["accepted labels"], goes["documents"], goes["embeddings"]) == (80, 80, 80, 80)
    assert (goes["tasks"], goes["annotations"], goes["model versions"], goes["project records"]) == (80, 80, 1, 1)
    assert found["bytes"]["embeddings"] == 80 * 48 * 2
    assert found["bytes"]["model versions"] > 1000
    assert found["dry_run"] is True
    code, out, _ = run("forget", "--project", "7", "--dry-run")
    assert code == 0
    assert "Nothing was removed (--dry-run)." in out
    assert "hash of its id" in out
    assert state(trained.settings.home) == before


def test_without_a_terminal_it_needs_yes(trained: Services, run: Run) -> None:
    assert trained.suggestions.count("7") == 0  # makes its table
    before = state(trained.settings.home)
    code, _, err = run("forget", "--project", "7")
    assert code == 2
    assert "--yes" in err
    assert state(trained.settings.home) == before


@pytest.mark.parametrize(("answer", "expected"), [("n\n", 1), ("y\n", 0)])
def test_on_a_terminal_it_asks(
    trained: Services, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, expected: int
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer.strip())
    code, _, _ = run("forget", "--project", "7")
    assert code == expected
    assert (known_projects(trained) == []) is (expected == 0)


def test_an_unknown_project_names_the_nearest(trained: Services, run: Run) -> None:
    trained.projects.update("furniture", label_config=CONFIG)
    code, _, err = run("forget", "--project", "furnitur", "--yes")
    assert code == 4
    assert "Did you mean furniture?" in err
    code, _, err = run("forget", "--project", "x", "--yes")
    assert "Known projects: 7, furniture." in err


@pytest.mark.parametrize("options", [(), ("--project", "7", "--image", "a.jpg")])
def test_either_a_project_or_an_image(trained: Services, run: Run, options: tuple[str, ...]) -> None:
    assert run("forget", *options, "--yes")[0] == 2


def test_what_another_project_uses_stays(trained: Services, run: Run) -> None:
    """Project 8 has the first 20 of the images."""
    manifest = manifest_of(trained)
    few = manifest.with_name("few.csv")
    few.write_text("".join(manifest.read_text().splitlines(keepends=True)[:21]))
    trained.projects.update("8", label_config=CONFIG)
    import_manifest(trained, few, "8")
    before = {document.id: document.projects["8"] for document in trained.catalog.documents("8")}
    found = run_json(run, "forget", "--project", "7", "--yes")
    assert found["goes"]["images"] == 60
    assert "20 images stay, because another project uses them." in found["stays"]
    fresh = Services(trained.settings)
    assert {document.id: document.projects["8"] for document in fresh.catalog.documents("8")} == before
    assert fresh.catalog.count() == 20
    assert fresh.embeddings("v1").get(list(before))[0].all()
    assert {id.partition("#")[0] for id in fresh.embeddings("v1").snapshot()[0]} == {*before, ""}
    assert not traces(trained.settings.home, ["0042.jpg"])
    assert known_projects(fresh) == ["8"]
    assert len(list(fresh.journal.annotations("8"))) == 20


def test_a_running_server_serves_nothing_of_it(trained: Services, run: Run, tmp_path: Path) -> None:
    uri = next(trained.catalog.documents("7")).projects["7"].uri
    assert predict(trained, uri)[0]["model_version"] == "taxonomist-v1"
    app = client_of(trained)
    key, thumbnail = (trained.credentials.project_key("7", page) for page in (LOOK_ALIKES, THUMBNAIL))
    assert b"<img" in app.get(f"/similar?project=7&key={key}&src={uri}").data
    name = image_id(uri)
    assert app.get(f"/thumbnail?project=7&key={thumbnail}&id={name}").status_code == 200
    assert run("forget", "--project", "7", "--yes")[0] == 0
    [answer] = predict(trained, uri)
    assert (answer["model_version"], answer["result"]) == ("taxonomist-look-alikes-0", [])
    assert app.get(f"/similar?project=7&key={key}&src={uri}").status_code == 404
    assert app.get(f"/thumbnail?project=7&key={thumbnail}&id={name}").status_code == 404


def test_a_project_that_comes_back_is_new_and_keeps_its_parts(trained: Services, run: Run) -> None:
    manifest, serving = manifest_of(trained), Predictor(trained)
    model = serving.model("7")
    parts = {document.id: document.projects["7"].part for document in trained.catalog.documents("7")}
    assert run("forget", "--project", "7", "--yes")[0] == 0
    services = Services(trained.settings)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, manifest, "7")
    assert {document.id: document.projects["7"].part for document in services.catalog.documents("7")} == parts
    train(services, "7", lambda step, share: None)
    assert services.registry.champion(registry_name("7")) == "v2"  # no number is used twice
    assert model is not None
    assert serving.model("7") is not model


def test_not_while_a_job_of_it_runs(trained: Services, run: Run) -> None:
    job = trained.jobs.enqueue(JobKind.EMBED, "7")
    trained.jobs.start(job.id)
    heartbeat.beat(trained.settings.home)
    code, _, err = run("forget", "--project", "7", "--yes")
    assert code == 5
    assert "embed" in err
    # The worker is gone: the job was interrupted.
    (trained.settings.home / "worker.json").write_text(json.dumps({"format": 1, "at": time.time() - 60, "pid": 1}))
    assert run("forget", "--project", "7", "--yes")[0] == 0


def test_former_databases_are_named_and_deleted_on_request(trained: Services, run: Run) -> None:
    backup = trained.settings.home / "before-version-2"
    backup.mkdir()
    (backup / "journal.sqlite").write_text("0003.jpg")
    code, out, _ = run("forget", "--project", "7", "--yes")
    assert code == 0
    assert "before-version-2" in out.replace("\n", "")
    assert backup.exists()
    trained.projects.update("7", label_config=CONFIG)
    assert run_json(run, "forget", "--project", "7", "--yes", "--backups")["backups"] == [str(backup)]
    assert not backup.exists()


STEPS = (
    "taxonomist.backend.state.project_records.ProjectRecords.remove",
    "taxonomist.storage.registry.folder.FolderRegistry.remove",
    "taxonomist.storage.journal.withdrawal.Withdrawal.withdraw_project",
    "taxonomist.storage.catalog.sqlite.SqliteCatalog.leave_project",
    "taxonomist.storage.home.image_files.forget_rows",
    "taxonomist.storage.journal.withdrawal.Withdrawal.forget_images",
    "taxonomist.storage.catalog.sqlite.SqliteCatalog.drop",
    "taxonomist.storage.journal.journal.Journal.done",
    "taxonomist.storage.journal.withdrawal.Withdrawal.forget_project",
)
KILLED = """
import importlib, os, signal, sys
path, when = sys.argv[1], sys.argv[2]
owner, name = path.rsplit(".", 1)
try:
    owner = importlib.import_module(owner)
except ModuleNotFoundError:
    module, kind = owner.rsplit(".", 1)
    owner = getattr(importlib.import_module(module), kind)
real = getattr(owner, name)
def dying(*arguments, **options):
    if when == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, dying)
from taxonomist.backend.cli import main
sys.argv = ["taxonomist", *sys.argv[3:]]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "when"), [*((step, "before") for step in STEPS), (STEPS[-1], "after")])
def test_a_killed_run_is_finished_by_the_next(trained: Services, run: Run, step: str, when: str) -> None:
    home, uri = trained.settings.home, next(trained.catalog.documents("7")).projects["7"].uri
    words = [step, when, "--home", str(home), "forget", "--project", "7", "--yes"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=home, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    services = Services(trained.settings)
    if STEPS.index(step) > 1:  # nothing that is half deleted is served
        key = services.credentials.project_key("7")
        assert client_of(services).get(f"/similar?project=7&key={key}&src={uri}").status_code == 404
        assert predict(services, uri)[0]["result"] == []
    done = run("forget", "--project", "7", "--yes")
    assert done[0] == (4 if when == "after" else 0), done[2]
    assert traces(home, NAMES) == []
    assert known_projects(Services(trained.settings)) == []
