"""connect and set_model_version against a real Label Studio."""

from __future__ import annotations

import subprocess
from typing import Any

import httpx
import pytest

from taxonomist.backend.connection.announce import set_model_version
from taxonomist.backend.connection.look_alike_panel import panel_address, panels_in
from taxonomist.backend.demo.accounts import checked, sign_up
from taxonomist.backend.demo.project import CatalogueImage, create_project
from taxonomist.backend.label_studio import LabelStudioClient, Prediction
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.taxonomy.errors import LabelStudioError
from taxonomist.taxonomy.label_config import parse_label_config
from tests.backend_process import BackendProcess
from tests.e2e.in_process import NO_MODEL, MakeProject, Ours, annotation, next_task, state
from tests.small_world import CONFIG
from tests.terminal import run_on_terminal


def test_connecting_twice_sets_everything_up_once(
    ours: Ours, owner: httpx.Client, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, tasks = make_project("Connect", catalogue[:2])
    before = state(owner, project)["about"]["label_config"]

    declined = ours.connect(project, NO_MODEL, yes=False)
    assert declined.panel == "declined"
    assert len(ours.questions) == 1
    assert state(owner, project)["about"]["label_config"] == before

    done = ours.connect(project, NO_MODEL)
    settings, credentials = ours.services.settings, ours.services.credentials
    now = state(owner, project)
    assert (done.panel, done.title, done.prefill, done.label_studio[:4]) == ("added", NO_MODEL, True, "1.23")
    assert done.ml_backend == declined.ml_backend
    [row], [hook] = now["rows"], now["webhooks"]
    assert row == {
        "id": done.ml_backend,
        "url": settings.url,
        "title": NO_MODEL,
        "state": "CO",
        "auth_method": "BASIC_AUTH",
    }
    assert hook["url"] == f"{settings.url}/webhook"
    assert hook["headers"] == {SECRET_HEADER: credentials.webhook_secret}
    assert (hook["is_active"], hook["send_for_all_actions"], hook["send_payload"]) == (True, True, True)
    assert now["about"]["model_version"] == NO_MODEL
    assert now["about"]["show_collab_predictions"] is True
    wanted = panel_address(settings.url, str(project), credentials.project_key(str(project)), "$image")
    assert panels_in(now["about"]["label_config"]) == [wanted]
    assert parse_label_config(now["about"]["label_config"]) == parse_label_config(before)

    record = ours.services.projects.get(str(project))
    assert record.api_key is not None
    assert record.api_key.get_secret_value() == ours.label_studio.owner.token
    assert (record.label_studio_url, record.ml_backend) == (ours.label_studio.url, done.ml_backend)
    assert record.label_config == now["about"]["label_config"]

    again = ours.connect(project, NO_MODEL)
    assert again.panel == "unchanged"
    assert ours.questions == []
    assert state(owner, project) == now

    # The webhook passes our password by its secret, and the event is in the journal when the request ends.
    assert owner.post(f"/api/tasks/{tasks[0].id}/annotations/", json=annotation(tasks[0].image)).status_code == 201
    ours.services.journal.fold()
    assert [saved.task_id for saved in ours.services.journal.annotations(str(project))] == [str(tasks[0].id)]


def test_a_server_that_moved_keeps_its_row_and_its_webhook(
    ours: Ours, owner: httpx.Client, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, _ = make_project("Move", catalogue[:1])
    before = ours.connect(project, NO_MODEL)
    ours.move()
    broken = ours.doctor(project)
    assert {broken[name].status for name in ("ML backend", "webhook", "look-alike panel")} == {"fail"}
    after = ours.connect(project, NO_MODEL)
    assert (after.ml_backend, after.webhook, after.panel) == (before.ml_backend, before.webhook, "updated")
    now = state(owner, project)
    assert [row["url"] for row in now["rows"]] == [ours.services.settings.url]
    assert [hook["url"] for hook in now["webhooks"]] == [f"{ours.services.settings.url}/webhook"]


def test_after_a_promotion_scores_show_and_the_stream_still_asks(
    ours: Ours,
    owner: httpx.Client,
    client: LabelStudioClient,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
) -> None:
    project, tasks = make_project("Promote", catalogue[:4])
    name = str(project)
    ours.connect(project, NO_MODEL)
    asked: list[str] = []
    inner = ours.app

    def listening(environ: dict[str, Any], start: Any) -> Any:
        asked.append(environ["PATH_INFO"])
        return inner(environ, start)

    ours.app = listening  # type: ignore[assignment]
    first = ours.serve_version(project)
    assert ours.doctor(project)["model version"].status == "warn"  # served, but not yet told

    for version in (first, ours.serve_version(project)):
        set_model_version(client, ours.services.projects.get(name), version, *known(ours))
        about = client.project(name)
        [row] = client.ml_backends(name)
        if version == first:
            assert (about.model_version, row.title) == (first, first)
            continue
        assert (about.model_version, row.title, row.model_version) == (version, version, version)
        assert ours.doctor(project)["model version"].status == "ok"

        # Pre-filling was turned off and on: the project's version is empty, and the stream shows nothing.
        client.update_project(name, show_collab_predictions=False)
        client.update_project(name, show_collab_predictions=True)
        assert client.project(name).model_version == ""
        set_model_version(client, ours.services.projects.get(name), version, *known(ours))
        assert client.project(name).model_version == version

        # The stream asks for a task that has no prediction of this version.
        asked.clear()
        opened = next_task(owner, project)
        assert "/predict" in asked
        assert [prediction["model_version"] for prediction in opened["predictions"]] == [version]

        # Scores show in the Data Manager, and Uncertainty sampling takes the lowest.
        client.update_project(name, sampling="Uncertainty sampling")
        open_tasks = [task for task in tasks if task.id != opened["id"]]
        scores = {task.id: score for task, score in zip(open_tasks, (0.9, 0.2, 0.6), strict=True)}
        pushed = (
            Prediction(task.id, version, scores[task.id], annotation(task.image)["result"]) for task in open_tasks
        )
        assert client.push_predictions(name, pushed) == 3
        query: dict[str, str | int] = {"project": project, "fields": "all"}
        shown = {
            task["id"]: task["predictions_score"] for task in owner.get("/api/tasks/", params=query).json()["tasks"]
        }
        assert {task: shown[task] for task in scores} == scores
        # With an overlap above 1, tasks with a first annotation come before any sampling.
        assert owner.patch(f"/api/projects/{project}", json={"maximum_annotations": 1}).is_success
        assert owner.post(f"/api/tasks/{opened['id']}/annotations/", json={"result": []}).status_code == 201
        assert min(scores, key=scores.__getitem__) == next_task_of_a_stranger(ours, project)


def known(ours: Ours) -> tuple[Settings, Any]:
    return ours.services.settings, ours.services.credentials


def next_task_of_a_stranger(ours: Ours, project: int) -> int:
    """Return the next task of an annotator without a locked task."""
    person = sign_up(ours.label_studio.url, ours.label_studio.owner, "stranger@example.com", "Annotator-2468")
    with person.client(ours.label_studio.url) as client:
        return int(next_task(client, project)["id"])


def test_a_row_that_was_deleted_is_reported_and_made_again(
    ours: Ours,
    owner: httpx.Client,
    client: LabelStudioClient,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
) -> None:
    project, _ = make_project("Deleted", catalogue[:1])
    done = ours.connect(project, NO_MODEL)
    assert owner.delete(f"/api/ml/{done.ml_backend}").is_success
    with pytest.raises(LabelStudioError, match=f"taxonomist connect --project {project}"):
        set_model_version(client, ours.services.projects.get(str(project)), "taxonomist-v1", *known(ours))
    assert ours.doctor(project)["ML backend"].status == "fail"
    ours.connect(project, NO_MODEL)
    now = state(owner, project)
    assert (len(now["rows"]), len(now["webhooks"])) == (1, 1)


def test_a_personal_access_token_does_all_of_it(
    ours: Ours, owner: httpx.Client, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, _ = make_project("Token", catalogue[:1])
    both = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    assert owner.post("/api/jwt/settings", json=both).is_success
    person = sign_up(ours.label_studio.url, ours.label_studio.owner, "pat@example.com", "Annotator-2468")
    with person.client(ours.label_studio.url) as theirs:
        token = theirs.post("/api/token/").json()["token"]
    assert token.count(".") == 2
    ours.connect(project, NO_MODEL, token=token)
    checks = ours.doctor(project)
    assert checks["token"].detail.endswith("pat@example.com")
    assert checks["image"].status == "ok"


def project_with_states(owner: httpx.Client, title: str) -> str:
    """Return the number of a new project with 24 tasks, whose field `item_state` has two values."""
    number = create_project(owner, title, CONFIG)
    data = [{"image": f"https://x.example/IMG_{n:04}.jpg", "item_state": "new" if n % 2 else "used"} for n in range(24)]
    checked(owner.post(f"/api/projects/{number}/import", json=[{"data": row} for row in data]))
    return str(number)


def test_the_questions_are_answered_on_a_terminal(owner: httpx.Client, backend: BackendProcess) -> None:
    project = project_with_states(owner, "On a terminal")
    before = state(owner, int(project))["about"]["label_config"]
    command = [*backend.program, "connect", "--project", project]
    code, shown = run_on_terminal(
        command,
        [
            ("Add a panel with labelled look-alikes", "n"),
            ("What names the product (or service report) of an image", "{article}_*"),
            ("What names the product", "-"),
            ("How many annotators must name a path?", "0"),
            ("How many annotators must name a path?", "1"),
        ],
        folder=backend.home,
        environment=backend.environment,
    )
    assert code == 0, shown
    assert "a field of its task (item_state), or a pattern of the file name" in shown
    assert "[item_state]" in shown  # proposed
    assert "a pattern of the file name has {product} once" in shown
    assert "The products are not known" in shown
    assert "greater than or equal to 1 (seen: '0')" in shown
    services = Services(Settings(home=backend.home))
    kept = services.projects.get(project)
    assert (kept.settings.product_field, kept.settings.annotators) == (None, 1)
    assert state(owner, int(project))["about"]["label_config"] == before

    # Again: what is set is not asked. An empty answer takes what is proposed.
    code, shown = run_on_terminal(
        command,
        [("Add a panel with labelled look-alikes", "y"), ("What names the product", "")],
        folder=backend.home,
        environment=backend.environment,
    )
    assert code == 0, shown
    assert "Products are named by item_state: 2 in the first 24 tasks." in shown
    assert "How many annotators" not in shown
    assert services.projects.get(project).settings.product_field == "item_state"
    assert panels_in(state(owner, int(project))["about"]["label_config"])


def test_yes_asks_nothing_and_takes_no_state_for_a_product(owner: httpx.Client, backend: BackendProcess) -> None:
    project = project_with_states(owner, "With --yes")
    said = backend.command("connect", "--project", project, "--yes").stdout  # without a terminal
    assert "Added the look-alike panel." in said
    assert "The products are not known" in said
    kept = Services(Settings(home=backend.home)).projects.get(project).settings
    assert (kept.product_field, kept.annotators) == (None, None)
    assert panels_in(state(owner, int(project))["about"]["label_config"])


def test_without_a_terminal_a_question_ends_the_command(owner: httpx.Client, backend: BackendProcess) -> None:
    project = project_with_states(owner, "Nobody answers")
    done = subprocess.run(
        [*backend.program, "connect", "--project", project],
        cwd=backend.home,
        env=backend.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
