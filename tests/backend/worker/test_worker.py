"""The worker decides, trains and survives: its pulse in this process, its death as a real process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.journal import TaskDeleted, TaskSaved
from taxonomist.taxonomy.errors import DamagedError
from tests.backend_process import BackendProcess
from tests.small_world import CONFIG, PATHS, write_catalogue
from tests.waiting import eventually


def jobs_of(services: Services, kind: JobKind) -> list[str]:
    return [job.reason for job in services.jobs.waiting() if job.kind is kind]


def quick(services: Services, **settings: object) -> Services:
    return Services(services.settings.model_copy(update=settings))


def test_enough_new_labels_ask_for_training_at_once(world: Services) -> None:
    worker = Worker(quick(world, retrain_every=80, retrain_after=1e9))
    worker.pulse()
    assert jobs_of(world, JobKind.TRAIN) == ["80 labels are new"]
    assert world.projects.get("7").changed_labels == 80  # until a training has learned them
    worker.pulse()
    assert len(jobs_of(world, JobKind.TRAIN)) == 1


def test_a_quiet_asks_for_training(world: Services) -> None:
    Worker(quick(world, retrain_every=1000, retrain_after=1e9)).pulse()
    assert jobs_of(world, JobKind.TRAIN) == []
    Worker(quick(world, retrain_every=1000, retrain_after=0)).pulse()
    assert jobs_of(world, JobKind.TRAIN) == ["80 labels are new and there are no new annotations"]


def test_labels_that_stay_the_same_ask_for_nothing(world: Services, tmp_path: Path) -> None:
    worker = Worker(quick(world, retrain_after=0))
    worker.pulse()
    world.jobs.start(world.jobs.waiting()[-1].id)
    world.projects.update("7", changed_labels=0)
    os.utime(tmp_path / "catalogue" / "manifest.csv")  # newer, but says the same
    import_manifest(world, tmp_path / "catalogue" / "manifest.csv", "7")
    assert world.projects.get("7").changed_labels == 0


def test_a_changed_rule_decides_all_anew(services: Services, tmp_path: Path) -> None:
    """A label of two agreeing annotators is withdrawn when three are required, and restored when two are."""
    services.projects.update("7", label_config=CONFIG)
    manifest = write_catalogue(tmp_path / "catalogue", 8, annotators=("anna", "bela"))
    assert import_manifest(services, manifest, "7").labelled == 8
    Worker(quick(services, min_annotators=3)).pulse()
    assert services.catalog.count("7", labelled=True) == 0
    document = next(iter(services.catalog.documents("7")))
    assert document.projects["7"].reason
    assert document.total_annotations == 2
    Worker(services).pulse()
    assert services.catalog.count("7", labelled=True) == 8


def test_a_lost_node_shortens_labels(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path / "catalogue", 8), "7")
    worker = Worker(services)
    worker.pulse()
    services.projects.update("7", label_config=CONFIG.replace('<Choice value="Red"/>', ""))
    worker.pulse()
    accepted = {tuple(path) for d in services.catalog.documents("7") for path in d.projects["7"].accepted["colour"]}
    assert accepted == {("Warm",), ("Warm", "Yellow"), ("Cold", "Blue"), ("Cold", "Green")}


def test_a_config_without_taxonomy_keeps_the_labels(world: Services) -> None:
    world.projects.update("7", label_config='<View><Image name="i" value="$image"/></View>')
    Worker(world).pulse()
    assert world.catalog.count("7", labelled=True) == 80


@pytest.mark.parametrize("config", ['<View><Image name="i" value="$image"/></View>', None], ids=["no taxonomy", "gone"])
@pytest.mark.parametrize("others", [0, 3], ids=["alone", "beside dirty images"])
def test_removed_images_are_forgotten_without_a_taxonomy(world: Services, config: str | None, others: int) -> None:
    worker = Worker(world)
    worker.pulse()
    removed = next(world.catalog.documents("7"))
    (task,) = world.journal.tasks("7", removed.id)
    now = datetime.now(UTC)
    new = [TaskSaved("7", task.source, f"new {number}", f"/new/{number}.png", now) for number in range(others)]
    world.journal.record([TaskDeleted("7", task.source, task.task_id), *new])
    if config is None:
        world.journal.kept.forget_record("7")
        world.projects.remove("7")
    else:
        world.projects.update("7", label_config=config)
    worker.pulse()
    assert world.catalog.get(removed.id) is None
    assert world.catalog.count("7") == 79
    dirty = world.journal.dirty("7")
    assert (len(dirty.images), len(dirty.removed)) == (others, 0)


@pytest.mark.parametrize("error", [DamagedError("one document"), RecursionError("odd")])
def test_one_project_does_not_stop_the_others(
    world: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def decide(services: Services, project: str, limit: int) -> bool:
        decided.append(project)
        if project == "3":
            raise error
        return False

    decided: list[str] = []
    world.projects.update("3", label_config=CONFIG)
    monkeypatch.setattr("taxonomist.backend.worker.worker.decide_dirty", decide)
    worker = Worker(world)
    for _ in range(2):
        worker.pulse()
    assert sorted(decided) == ["3", "3", "7", "7"]
    assert sum("project 3: labels wait" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.slow
class TestKilled:
    """A real server with its worker on a trained project."""

    @pytest.fixture
    def backend(self, trained: Services) -> Iterator[BackendProcess]:
        settings = {"retrain_every": 100000, "retrain_after": 100000, "backbone_weights": "random"}
        settings["target_precision"] = "0.85"  # another than that of the champion, so that there is something to train
        with BackendProcess(trained.settings.home, settings) as backend:
            eventually("a worker", lambda: worker_pid(trained))
            yield backend

    def test_killed_in_a_training_it_trains_again_and_the_champion_serves_on(
        self, trained: Services, backend: BackendProcess
    ) -> None:
        pid = worker_pid(trained)
        job = trained.jobs.enqueue(JobKind.TRAIN, "7", "test")
        eventually("the training", lambda: state(trained, job.id) is JobState.RUNNING, every=0.01)
        os.kill(pid, signal.SIGKILL)
        assert served(trained, backend) == "taxonomist-v1"
        eventually("another worker", lambda: worker_pid(trained) not in {0, pid})

        def ended() -> bool:
            assert served(trained, backend) in {"taxonomist-v1", "taxonomist-v2"}
            return state(trained, job.id) is JobState.DONE

        eventually(f"the second try\n{backend.said()}", ended)
        again = trained.jobs.get(job.id)
        assert again is not None
        assert again.attempts == 2
        assert [version.version for version in trained.registry.versions("project-7")] == ["v1", "v2"]

    def test_stopped_in_a_training_it_trains_again_and_the_stop_does_not_count(
        self, trained: Services, backend: BackendProcess
    ) -> None:
        pid = worker_pid(trained)
        job = trained.jobs.enqueue(JobKind.TRAIN, "7", "test")
        eventually("the training", lambda: state(trained, job.id) is JobState.RUNNING, every=0.01)
        os.kill(pid, signal.SIGTERM)
        eventually("another worker", lambda: worker_pid(trained) not in {0, pid})
        eventually(f"the second try\n{backend.said()}", lambda: state(trained, job.id) is JobState.DONE)
        again = trained.jobs.get(job.id)
        assert again is not None
        assert again.attempts == 1

    def test_a_stop_ends_server_and_worker(self, trained: Services, backend: BackendProcess) -> None:
        pid = worker_pid(trained)
        assert backend.stop() == 0
        eventually("the worker's end", lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))

    def test_the_worker_ends_when_the_server_is_killed(self, trained: Services, backend: BackendProcess) -> None:
        pid = worker_pid(trained)
        assert backend.process is not None
        os.kill(backend.process.pid, signal.SIGKILL)
        eventually("the worker's end", lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except OSError:
        return True


def worker_pid(services: Services) -> int:
    try:
        return int(json.loads((services.settings.home / "worker.json").read_text())["pid"])
    except (OSError, ValueError):
        return 0


def state(services: Services, job_id: str) -> JobState | None:
    job = services.jobs.get(job_id)
    return job.state if job else None


def served(services: Services, backend: BackendProcess) -> str:
    uri = next(iter(services.catalog.documents("7"))).projects["7"].uri
    body = {"tasks": [{"id": 1, "data": {"image": uri}}], "project": "7", "label_config": CONFIG}
    (result,) = httpx.post(f"{backend.url}/predict", json=body, timeout=30).raise_for_status().json()["results"]
    assert tuple(result["result"][0]["value"]["taxonomy"][0]) in PATHS
    return str(result["model_version"])
