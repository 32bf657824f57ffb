"""Jobs on a disk that is really full: each waits, says so in one sentence, and goes on by itself; nothing is lost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.backend.worker.job_loop import JobLoop
from taxonomist.storage.catalog import image_id
from taxonomist.taxonomy.errors import StorageError
from tests.label_studio_stand_in import RED, StandIn
from tests.present import present
from tests.small_world import CONFIG, image_bytes, publish_backbone, write_catalogue
from tests.soak.small_disk import filled, small_disk

WAITS = "waits for room on the disk: "
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def labelled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Project "7": 80 labelled images that were never read, a small backbone, no model yet."""
    folder = tmp_path_factory.mktemp("labelled")
    services = Services(Settings(home=folder / "home"))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(folder / "catalogue", 80), "7")
    return services.home


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=32) as mounted:
        if not mounted:
            pytest.skip("only root can mount a file system, and not in every container")
        yield tmp_path / "disk"


def opened(home: Path, disk: Path) -> Services:
    """Return the services of a copy of the home on the small disk; each process opens its files at its first use."""
    shutil.copytree(home, disk / "home")
    services = Services(Settings(home=disk / "home", head="mlp", head_epochs=3, views=1, blind_share=0))
    services.jobs.forget("7")  # those of the import
    services.journal.fold()
    services.suggestions.count("7")
    return services


def enqueued(home: Path, disk: Path, kind: JobKind) -> tuple[Services, JobLoop, Job]:
    """Return the services of a copy of the home on the small disk, with a job that waits for its turn."""
    services = opened(home, disk)
    return services, JobLoop(services, threading.Event()), services.jobs.enqueue(kind, "7")


def now(services: Services, job: Job) -> Job:
    return present(services.jobs.get(job.id))


def tried(services: Services, loop: JobLoop, job: Job) -> str:
    """Run the job; return what it waits for, or how it ended, also where the job table had no room for it."""
    with suppress(StorageError):
        loop.run_next()
    if loop._ended is not None:
        return loop._ended.outcome
    return now(services, job).outcome or now(services, job).step


def check_ends(services: Services, loop: JobLoop, job: Job) -> str:
    """Check that the job ends now that there is room, at its first attempt; return its outcome."""
    while now(services, job).state is not JobState.DONE:
        loop.run_next()
    ended = now(services, job)
    assert ended.attempts == 1
    assert services.journal.set_aside.items() == []
    return ended.outcome


@pytest.mark.parametrize("left_kilobytes", [40, 250, 400, 550, 700])
def test_a_training(labelled_home: Path, disk: Path, left_kilobytes: int) -> None:
    """It meets the full disk while it embeds, trains and publishes, and after its version was promoted."""
    services, loop, job = enqueued(labelled_home, disk, JobKind.TRAIN)
    with filled(disk, left_kilobytes):
        assert tried(services, loop, job).startswith(WAITS)
        registry = Services(services.settings).registry
        for version in registry.versions("project-7"):
            registry.verify(version)
        assert registry.champion("project-7") in {None, *(found.version for found in registry.versions("project-7"))}
    check_ends(services, loop, job)
    assert [found.version for found in services.registry.versions("project-7")] == ["v1"]
    assert services.registry.champion("project-7") == "v1"
    documents = list(services.catalog.documents("7", labelled=True))
    assert len(documents) == 80
    assert {document.projects["7"].part for document in documents} == {"test", "train"}
    assert all(document.file_hash for document in documents)
    assert services.embeddings("v1").get([document.id for document in documents])[0].all()
    assert not list(services.home.glob("models/*/.staging-*"))


@pytest.mark.parametrize("left_kilobytes", [40, 100, 200])
def test_an_embedding(labelled_home: Path, disk: Path, left_kilobytes: int) -> None:
    services, loop, job = enqueued(labelled_home, disk, JobKind.EMBED)
    with filled(disk, left_kilobytes):
        assert tried(services, loop, job).startswith(WAITS)
    assert check_ends(services, loop, job) == "80 of 80 images have an embedding, 0 cannot be read"
    documents = list(services.catalog.documents("7"))
    assert services.embeddings("v1").get([document.id for document in documents])[0].all()
    assert all(document.file_hash for document in documents)


@pytest.fixture
def label_studio(tmp_path: Path) -> Iterator[StandIn]:
    """Forty open tasks."""
    with StandIn(7) as running:
        for number in range(1, 41):
            (tmp_path / f"{number}.jpg").write_bytes(image_bytes(tuple(RED), number))
            running.add_task(number, str(tmp_path / f"{number}.jpg"))
        yield running


def connect(services: Services, label_studio: StandIn, tmp_path: Path) -> None:
    folder = {"address": str(tmp_path), "folders": [str(tmp_path)]}
    services.projects.update(
        "7", label_studio_url=label_studio.url, api_key=SecretStr("t"), image_folders=[folder], created=None
    )


@pytest.mark.parametrize("left_kilobytes", [8, 12, 16, 20, 24])
def test_a_push(trained_home: Path, label_studio: StandIn, disk: Path, tmp_path: Path, left_kilobytes: int) -> None:
    services = opened(trained_home, disk)
    connect(services, label_studio, tmp_path)
    uris = [task["data"]["image"] for task in label_studio.tasks.values()]
    embed(services, "7", {image_id(uri): uri for uri in uris}, "v1")
    loop = JobLoop(services, threading.Event())
    job = services.jobs.enqueue(JobKind.PUSH, "7")
    with filled(disk, left_kilobytes):
        tried(services, loop, job)
        assert len(label_studio.predictions) <= services.suggestions.count("7")
    check_ends(services, loop, job)
    assert sorted(found["task"] for found in label_studio.predictions.values()) == list(range(1, 41))
    shown = sum(bool(found["result"]) for found in label_studio.predictions.values())
    assert services.suggestions.count("7") == shown > 0


@pytest.mark.parametrize("left_kilobytes", [40, 80])
def test_a_pass_over_label_studio(
    trained_home: Path, label_studio: StandIn, disk: Path, tmp_path: Path, left_kilobytes: int
) -> None:
    services = opened(trained_home, disk)
    connect(services, label_studio, tmp_path)
    for task in label_studio.tasks:
        label_studio.annotate(2 * task, task, 3, RED)
        label_studio.annotate(2 * task + 1, task, 5, RED)
    loop = JobLoop(services, threading.Event())
    job = services.jobs.enqueue(JobKind.SYNC, "7")
    before = services.catalog.count("7", labelled=True)
    with filled(disk, left_kilobytes):
        assert tried(services, loop, job).startswith(WAITS)
    assert "40 tasks, 80 annotations" in check_ends(services, loop, job)
    assert services.catalog.count("7", labelled=True) == before + 40
