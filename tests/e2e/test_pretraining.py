"""A pre-training that comes by schedule, on a real Label Studio which is answered all the while.

The backbone in service is a poor one by construction, and the test images show products of the training part, so that
the new one has to win: on products that it has never seen, a training this small wins by luck only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.annotators import Outcome, annotate, plan
from taxonomist.backend.demo.project import CatalogueImage
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject
from tests.small_world import publish_poor_backbone
from tests.waiting import eventually

SETTINGS = {
    "head": "mlp",  # suggests something, however poor it is
    "views": 1,
    "target_precision": 0.02,
    "retrain_after": 2,
    "retrain_every": 1000,
    "product_field": "in-no-task",  # so that the products are not known
}
PRETRAINING = {
    "pretrain_schedule": "* * * * *",
    "pretrain_min_new": 10,
    "pretrain_preset": "smoke",
    "pretrain_device": "cpu",
}
TIMEOUT_S = 900  # a process of low priority on a busy machine


class Traffic(threading.Thread):
    """Asks the backend for predictions, and Label Studio for the backend's versions, until it is stopped."""

    def __init__(
        self,
        owner: httpx.Client,
        backend: BackendProcess,
        ml_backend: int,
        request: dict[str, Any],
        auth: tuple[str, str],
    ) -> None:
        super().__init__()
        self.auth = auth
        self.owner, self.backend, self.ml_backend, self.request = owner, backend, ml_backend, request
        self.seen: set[str] = set()
        self.answers = 0
        self.problems: list[str] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self.stopped.wait(0.2):
                try:
                    self._ask(client)
                except Exception as error:
                    self.problems.append(repr(error))

    def _ask(self, client: httpx.Client) -> None:
        response = client.post(f"{self.backend.url}/predict", json=self.request, auth=self.auth).raise_for_status()
        answer = response.json()
        versions = {result["model_version"] for result in answer["results"]}
        if len(versions) != 1 or not all(result["result"] for result in answer["results"]):
            self.problems.append(f"not all is answered by one model: {answer}")
        self.seen |= versions
        known = set(checked(self.owner.get(f"/api/ml/{self.ml_backend}/versions")).json()["versions"])
        if not versions <= known:
            self.problems.append(f"{versions} are none of {known}")
        self.answers += 1


@pytest.mark.timeout(1800)
def test_a_scheduled_pretraining_is_promoted_while_label_studio_is_answered(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    make_backend: Callable[..., BackendProcess],
    tmp_path: Path,
) -> None:
    taxonomy = sorted({picture.path for picture in catalogue})
    project, tasks = make_project("Pre-training", catalogue[::3])
    truths = {task.id: task.image.path for task in tasks}
    annotate(label_studio.url, annotators, plan(truths, taxonomy, shares={Outcome.AGREE: 1}))
    services = Services(Settings(home=tmp_path / "home"))
    publish_poor_backbone(services)
    backend = make_backend(**SETTINGS)
    name = f"project-{project}"

    backend.command("connect", "--project", str(project), "--yes")
    backend.command("sync", "--project", str(project))
    wait_for(services, backend, name, {"backbone": "v1", name: "v1"})
    assert [job.reason for job in services.jobs.latest("", JobKind.PRETRAIN)] == []

    backend.stop()
    backend.settings = {**backend.settings, **PRETRAINING}
    backend.start()
    (row,) = checked(owner.get("/api/ml", params={"project": project})).json()
    about = checked(owner.get(f"/api/projects/{project}")).json()
    request = {
        "tasks": [{"id": task.id, "data": {"image": task.uri}} for task in tasks],
        "project": f"{project}.1",
        "label_config": about["label_config"],
    }
    auth = (services.credentials.username, services.credentials.password)
    request["tasks"] = answered(backend, request, auth)[:4]  # a poor model leaves some images to the annotators
    assert len(request["tasks"]) == 4
    traffic = Traffic(owner, backend, row["id"], request, auth)
    traffic.start()
    try:
        job = eventually(f"the pre-training\n{backend.said()}", lambda: ended(services), timeout=TIMEOUT_S, every=1)
        assert job.state is JobState.DONE, job.outcome
        # After two epochs of few images this is luck; then a person decides.
        if "Backbone v2 stays a candidate" in job.outcome:
            backend.command("backbone", "promote", "v2")
        else:
            assert "Backbone v2 is served now, with taxonomist-v2" in job.outcome
        wait_for(services, backend, name, {"backbone": "v2", name: "v2"})
        eventually("it answers", lambda: "taxonomist-v2" in traffic.seen)
        wait_until_shown(owner, project, "taxonomist-v2")
        backend.command("models", "rollback", "--project", str(project))
        wait_for(services, backend, name, {"backbone": "v1", name: "v1"})
        wait_until_shown(owner, project, "taxonomist-v1")
    finally:
        traffic.stopped.set()
        traffic.join()
    assert traffic.problems == []
    assert traffic.seen == {"taxonomist-v1", "taxonomist-v2"}
    assert traffic.answers > 10
    assert len(services.jobs.latest("", JobKind.PRETRAIN)) == 1  # no image is new since then


def answered(backend: BackendProcess, request: dict[str, Any], auth: tuple[str, str]) -> list[Any]:
    """Return the tasks for which the backend has a suggestion."""
    answer = httpx.post(
        f"{backend.url}/predict", json=request, auth=auth, timeout=60, trust_env=False
    ).raise_for_status()
    results = answer.json()["results"]
    return [task for task, result in zip(request["tasks"], results, strict=True) if result["result"]]


def ended(services: Services) -> Job | None:
    """Return the job of the pre-training if it has ended."""
    jobs = services.jobs.latest("", JobKind.PRETRAIN)
    return next((job for job in jobs if job.state in {JobState.DONE, JobState.FAILED}), None)


def wait_for(services: Services, backend: BackendProcess, name: str, champions: dict[str, str]) -> None:
    eventually(
        f"{champions} are served\n{backend.said()}",
        lambda: {key: services.registry.champion(key) for key in ("backbone", name)} == champions,
        timeout=300,
    )


def wait_until_shown(owner: httpx.Client, project: int, version: str) -> None:
    """Wait until Label Studio shows that version."""

    def shown() -> bool:
        (row,) = checked(owner.get("/api/ml", params={"project": project})).json()
        return bool(row["model_version"] == version)

    eventually(f"Label Studio shows {version}", shown)
