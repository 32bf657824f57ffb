"""The client against a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from taxonomist.backend.demo.project import CatalogueImage
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.label_studio import LabelStudioClient, Prediction
from taxonomist.backend.label_studio.failures import BACKEND_AUTH_FIX, DOTLESS_FIX, REACH_FIX, REVOKED_FIX
from taxonomist.taxonomy.errors import LabelStudioError
from tests.e2e.in_process import MakeProject, Ours, annotation


def test_tasks_annotations_and_predictions(
    owner: httpx.Client, client: LabelStudioClient, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, tasks = make_project("Tasks", catalogue[:6])
    name = str(project)
    submitted, skipped, both, *open_tasks = tasks
    skip = {"result": [], "was_cancelled": True}
    for task, bodies in (
        (submitted, [annotation(submitted.image)]),
        (skipped, [skip]),
        (both, [skip, annotation(both.image)]),
    ):
        for body in bodies:
            assert owner.post(f"/api/tasks/{task.id}/annotations/", json=body).status_code == 201

    exported = {task["id"]: task for task in client.export_annotations(name)}
    assert {task: len(found["annotations"]) for task, found in exported.items()} == {
        submitted.id: 1,
        skipped.id: 1,
        both.id: 2,
    }
    [plain] = owner.get(f"/api/tasks/{submitted.id}").json()["annotations"]
    [ours] = exported[submitted.id]["annotations"]
    assert ours["completed_by"] == plain["completed_by"]["id"]
    assert {
        key: ours[key] for key in ("id", "result", "was_cancelled", "ground_truth", "created_at", "updated_at")
    } == {key: plain[key] for key in ("id", "result", "was_cancelled", "ground_truth", "created_at", "updated_at")}
    assert exported[submitted.id]["data"]["image"] == submitted.uri

    assert [task["id"] for task in client.tasks(name)] == sorted(task.id for task in tasks)
    assert {task["id"] for task in client.tasks(name, unlabelled=True)} == {task.id for task in open_tasks}

    # A path of today's config is stored; of a task that is gone, or a control that is not there, nothing.
    first, second, third = open_tasks
    result = annotation(first.image)["result"]
    assert client.push_predictions(name, [Prediction(str(first.id), "taxonomist-v10", 0.5, result)]) == 1
    assert owner.delete(f"/api/tasks/{third.id}/").is_success
    gone = [Prediction(third.id, "taxonomist-v1", 0.5, result), Prediction(second.id, "taxonomist-v1", 0.5, result)]
    assert client.push_predictions(name, gone) == 1
    wrong = [{**result[0], "from_name": "nothing"}]
    assert client.push_predictions(name, [Prediction(first.id, "taxonomist-v1", 0.5, wrong)]) == 0
    lacking = client.tasks(name, unlabelled=True, lacking_version="taxonomist-v1")
    assert [task["id"] for task in lacking] == [first.id]  # it has v10, which only begins like v1


def test_refusals_name_their_fix(
    label_studio: LabelStudioServer,
    ours: Ours,
    client: LabelStudioClient,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
) -> None:
    project, _ = make_project("Refusals", catalogue[:1])
    name = str(project)

    def hint(call: Callable[[], object]) -> str | None:
        with pytest.raises(LabelStudioError) as caught:
            call()
        return caught.value.hint

    with LabelStudioClient(label_studio.url, "0" * 40) as stranger:
        assert stranger.version() == label_studio.version
        assert hint(stranger.user) == REVOKED_FIX
    with LabelStudioClient(label_studio.url, "aaa.bbb.ccc") as stranger:
        assert hint(stranger.user) == REVOKED_FIX
    assert "/projects/" in (hint(lambda: client.project("999999")) or "")
    assert hint(lambda: client.create_ml_backend(name, "http://127.0.0.1:1", "v1")) == REACH_FIX
    assert hint(lambda: client.create_webhook(name, "http://taxonomist:9090/webhook", {})) == DOTLESS_FIX
    with pytest.raises(LabelStudioError, match="nothing"):
        client.validate_config(name, '<View><Taxonomy name="t" toName="nothing"/></View>')
    with pytest.raises(LabelStudioError, match="Model version doesn't exist"):
        client.update_project(name, model_version="taxonomist-v99")

    # Our own server refuses a Label Studio that has no password, or another one.
    assert hint(lambda: client.create_ml_backend(name, ours.services.settings.url, "v1")) == BACKEND_AUTH_FIX
