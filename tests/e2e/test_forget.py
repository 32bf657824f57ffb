"""Forgetting a project that is connected to a real Label Studio, and an image whose task is deleted there."""

from __future__ import annotations

import httpx

from taxonomist.backend.connection.disconnect import disconnect, is_connected
from taxonomist.backend.demo.project import CatalogueImage
from taxonomist.backend.forgetting.forget import forget_project
from taxonomist.backend.forgetting.plan import known_projects
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.catalog import image_id
from tests.backend.forgetting.conftest import traces
from tests.e2e.in_process import NO_MODEL, MakeProject, Ours, annotation, state
from tests.waiting import eventually


def test_nothing_is_left_and_label_studio_calls_no_more(
    ours: Ours, owner: httpx.Client, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, tasks = make_project("Forget", catalogue[:3])
    ours.connect(project, NO_MODEL)
    name, services = str(project), ours.services
    for task in tasks:
        assert owner.post(f"/api/tasks/{task.id}/annotations/", json=annotation(task.image)).status_code == 201
    sync(services, name, lambda step, share: None)
    assert services.catalog.count(name) == 3

    # A deleted task takes its image along.
    uri = next(services.journal.tasks(name, ids=[str(tasks[0].id)])).uri
    assert owner.delete(f"/api/tasks/{tasks[0].id}/").is_success
    eventually("the webhook is recorded", lambda: services.journal.pending() > 0, timeout=20)
    Worker(services).pulse()
    assert services.catalog.get(image_id(uri)) is None
    assert traces(ours.home, [uri.rpartition("/")[2]]) == []
    assert services.catalog.count(name) == 2

    assert is_connected(services, name)
    said = list(disconnect(services, name))
    forget_project(services, name, lambda step, share: None)
    now = state(owner, project)
    assert (now["rows"], now["webhooks"]) == ([], [])
    assert any("look-alike panel stays" in line for line in said)
    assert known_projects(services) == []

    # What people do there afterwards is not recorded.
    assert owner.post(f"/api/tasks/{tasks[1].id}/annotations/", json=annotation(tasks[1].image)).status_code == 201
    assert services.journal.pending() == 0
    assert known_projects(services) == []
    assert ours.connect(project, NO_MODEL).webhook
