"""Work on a project and the command that forgets it keep apart; trouble with one project costs no other one."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from taxonomist.backend.forgetting.forget import forget_image, forget_project
from taxonomist.backend.forgetting.plan import known_projects, plan_image
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.pretraining.adopt import embed_catalogue
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state import project_use
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker import job_runner
from taxonomist.backend.worker.worker import Worker
from taxonomist.inference.embedder import Embedder
from taxonomist.storage.catalog import ImageDocument, image_id
from taxonomist.storage.home.image_files import forget_image_files
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConflictError, StorageError
from tests.backend.cli.conftest import Run
from tests.backend.forgetting.conftest import traces
from tests.backend.forgetting.test_forget_image import NAMES, A, B, C, connected, deleted, label_studio, labelled
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG, write_catalogue
from tests.waiting import eventually

__all__ = ["connected", "label_studio"]

KINDS = [JobKind.TRAIN, JobKind.EMBED, JobKind.SYNC, JobKind.PUSH, JobKind.FILL]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_use, "_WAIT_S", 0.1)


def unfinished(*_: object) -> None:
    """No progress is shown."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_running_job_of_any_kind_keeps_the_project(
    connected: Services, run: Run, monkeypatch: pytest.MonkeyPatch, kind: JobKind
) -> None:
    """A command runs it, so that the job table does not have it."""
    answers: list[tuple[int, str]] = []

    def work(services: Services, kind: JobKind, project: str, *_: object, **__: object) -> str:
        code, _out, err = run("forget", "--project", "4", "--yes")
        answers.append((code, err))
        assert labelled(connected) == {A, B, C}
        return "done"

    monkeypatch.setattr(job_runner, "_run", work)
    assert job_runner.run(connected, kind, "4", unfinished) == "done"
    [(code, err)] = answers
    assert code == 5
    assert "A job or a command of project 4 is running." in err
    assert run("forget", "--project", "4", "--yes")[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_job_of_any_kind_begins_while_it_is_forgotten(connected: Services, kind: JobKind) -> None:
    jobs = connected.jobs
    refused: list[str] = []

    def begin() -> None:
        jobs.forget("4")
        jobs.enqueue(kind, "4")
        worker = Worker(Services(connected.settings))
        assert worker._jobs.run_next()
        refused.append(jobs.latest("4", kind)[0].outcome)
        worker.pulse()
        jobs.enqueue(kind, "4")  # waits, and goes with the project

    forget_project(connected, "4", unfinished, first=begin)
    assert refused == ["Project 4 is being forgotten. Wait until the command ends."]
    assert known_projects(Services(connected.settings)) == []
    assert jobs.count("4") == 0
    assert traces(connected.home, NAMES) == []
    assert not list(connected.home.glob("*4.lock"))


def test_jobs_of_one_project_run_beside_each_other_and_others_beside_forgetting(
    connected: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=10)

    def work(services: Services, kind: JobKind, *_: object, **__: object) -> str:
        both.wait()
        return kind.value

    monkeypatch.setattr(job_runner, "_run", work)
    other = threading.Thread(target=job_runner.run, args=(connected, JobKind.SYNC, "4", unfinished))
    other.start()
    assert job_runner.run(connected, JobKind.FILL, "4", unfinished) == "fill"
    other.join()
    monkeypatch.setattr(job_runner, "_run", lambda *_, **__: "done")
    forget_project(connected, "4", unfinished, first=lambda: _assert_runs(connected, "5"))


def _assert_runs(services: Services, project: str) -> None:
    assert job_runner.run(services, JobKind.SYNC, project, unfinished) == "done"
    with pytest.raises(ConflictError):
        job_runner.run(services, JobKind.SYNC, "4", unfinished)


def test_a_prepared_image_that_is_forgotten_while_it_is_adopted_leaves_no_embedding(
    connected: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = connected.registry.get(BACKBONE, "v1")
    size = version.backbone_manifest.size
    ids = [image_id(uri) for uri in (A, B, C)]
    prepared = PreparedImageStore(connected.home / "pictures" / str(size), size)
    prepared.append(ids, np.full((3, size, size, 3), 7, np.uint8))
    monkeypatch.setattr("taxonomist.backend.pretraining.adopt.WORKING_SHARE", 1.0)
    real = Embedder.embed

    def embed_late(self: Embedder, images: object) -> object:
        other = Services(connected.settings)
        forget_image(other, plan_image(other, A), unfinished)
        return real(self, images)  # type: ignore[arg-type]

    for name in ids:
        assert connected.embeddings("v1").get([name])[0].all()
    store = connected.home / "embeddings" / "v1"
    shutil.rmtree(store)
    fresh = Services(connected.settings)
    monkeypatch.setattr(Embedder, "embed", embed_late)
    embed_catalogue(fresh, version, lambda share: None, lambda: False, prepared)
    assert fresh.embeddings("v1").get(ids)[0].tolist() == [False, True, True]
    assert traces(connected.home, NAMES[:1]) == []


def test_an_image_that_goes_while_it_is_embedded_keeps_its_former_parts(connected: Services) -> None:
    """It is in no project any more when its embedding is stored, and its document still says its part."""
    name = image_id(A)
    connected.catalog.drop([name])
    connected.journal.withdrawal.withdraw_image("4", name)
    connected.catalog.put(ImageDocument(id=name, uri_orig=A, former_parts={"4": "train"}))
    forget_image_files(connected.home, {name})
    embed(Services(connected.settings), "4", {name: A}, "v1", listed=True)
    assert connected.catalog.get(name) is None
    assert connected.journal.kept.parts("4", [name]) == {name: "train"}


@pytest.fixture
def two_projects(connected: Services, tmp_path: Path) -> Services:
    connected.projects.update("5", label_config=CONFIG)
    import_manifest(connected, write_catalogue(tmp_path, 6), "5")
    return connected


def test_storage_that_is_away_costs_the_forgetting_only(
    two_projects: Services,
    label_studio: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services, tried = two_projects, list[Collection[str]]()

    def away(self: Services, images: Collection[str]) -> int:
        tried.append(images)
        raise StorageError("Azure does not answer.")

    worker = Worker(services)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Services, "forget_shared_embeddings", away)
        UseCases(services).receive(deleted(label_studio, 1))
        UseCases(services).receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", 20)))
        label_studio.annotations[20]["result"] = []
        services.projects.update("5", decided_with="an older rule")
        for _ in range(3):
            worker.pulse()
    assert len(tried) == 3  # each pass tries again
    assert len([line for line in caplog.messages if "Azure does not answer." in line]) == 1
    assert services.projects.get("5").decided_with != "an older rule"
    assert services.journal.dirty("4").images == frozenset()  # labels did not wait
    assert services.journal.dirty("4").removed == {image_id(A)}
    assert labelled(services) == {B, C}  # it is served no more
    worker.pulse()
    assert services.journal.dirty("4").removed == frozenset()
    assert traces(services.home, NAMES[:1]) == []


def test_a_job_outlasts_a_command_that_is_refused(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `forget` waits for other work, a job that begins is not lost."""
    monkeypatch.setattr(project_use, "_WAIT_S", 2.0)
    refused = threading.Event()

    def forget() -> None:
        with pytest.raises(ConflictError), project_use.alone_on(services.home, "4"):
            pass
        refused.set()

    def is_waiting() -> bool:
        try:
            with project_use.working_on(services.home, "4"):
                return False
        except ConflictError:
            return True

    services.projects.update("4", label_config=CONFIG)
    with project_use.working_on(services.home, "4"):
        waiting = threading.Thread(target=forget)
        waiting.start()
        eventually("the command waits", is_waiting, every=0.01)
        with project_use.working_on(services.home, "4", waits=True):
            assert refused.wait(10)
    waiting.join()
