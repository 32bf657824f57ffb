"""connect, set_model_version, the client and the doctor against a real Label Studio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from werkzeug.serving import BaseWSGIServer, make_server

from backend import heartbeat
from backend.app import create_app
from backend.auth import SECRET_HEADER
from backend.connect import Connected, connect, set_model_version
from backend.demo.people import sign_up
from backend.demo.project import CONTROL, DemoTask, Picture
from backend.demo.server import LabelStudioServer
from backend.doctor import Check, run_checks
from backend.label_studio import LabelStudioClient, Prediction
from backend.label_studio.failures import ACCESS_FIX, BACKEND_AUTH_FIX, DOTLESS_FIX, REACH_FIX
from backend.panel import panel_address, panels_in
from backend.services import Services, registry_name
from backend.settings import Settings
from taxonomy.errors import LabelStudioError
from taxonomy.tree import parse_label_config

MakeProject = Callable[..., tuple[int, tuple[DemoTask, ...]]]


class Ours:
    """Our application in this process, at an address that Label Studio can call, with a password."""

    def __init__(self, home: Path, label_studio: LabelStudioServer) -> None:
        self.label_studio = label_studio
        self.home = home
        self._server: BaseWSGIServer | None = None
        self.move()

    def move(self) -> None:
        """Serve the same state from another port."""
        self.stop()
        self._server = make_server("127.0.0.1", 0, lambda environ, start: self.app(environ, start), threaded=True)
        settings = Settings(home=self.home, port=self._server.server_port, password=SecretStr("pass word:&"))
        self.services = Services(settings)
        self.app = create_app(settings, self.services)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def connect(self, project: int, version: str, *, yes: bool = True, token: str | None = None) -> Connected:
        self.questions: list[str] = []
        self.said: list[str] = []

        def ask(question: str) -> bool:
            self.questions.append(question)
            return yes

        return connect(
            self.services.settings,
            self.services.credentials,
            self.services.book,
            url=self.label_studio.url,
            api_key=token or self.label_studio.owner.token,
            project=str(project),
            model_version=version,
            ask=ask,
            say=self.said.append,
        )

    def serve_version(self, project: int) -> str:
        """Make a new champion; returns the name under which Label Studio will know it. It holds no weights."""
        registry, name = self.services.registry, registry_name(str(project))
        trees = parse_label_config(self.services.book.get(str(project)).label_config).trees
        manifest = {"trees": [tree.to_json() for tree in trees], "backbone": "v1", "calibration": {}}
        with registry.stage(name) as folder:
            (folder / "note.txt").write_text("no weights")
            version = registry.publish(name, folder, manifest).version
        registry.promote(name, version)
        return f"taxonomist-{version}"

    def doctor(self, project: int) -> dict[str, Check]:
        self.home.mkdir(exist_ok=True)
        heartbeat.beat(self.home)
        return {check.name: check for check in run_checks(self.services, str(project))}


@pytest.fixture
def ours(tmp_path: Path, label_studio: LabelStudioServer) -> Iterator[Ours]:
    running = Ours(tmp_path / "home", label_studio)
    yield running
    running.stop()


@pytest.fixture
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudioClient]:
    with LabelStudioClient(label_studio.url, label_studio.owner.token) as client:
        yield client


NO_MODEL = "taxonomist-look-alikes-0"


def state(owner: httpx.Client, project: int) -> dict[str, Any]:
    """What Label Studio has of a project, without times."""
    about = owner.get(f"/api/projects/{project}").json()
    hooks = owner.get("/api/webhooks/", params={"project": project}).json()
    rows = owner.get("/api/ml", params={"project": project}).json()
    return {
        "about": {key: about[key] for key in ("label_config", "model_version", "show_collab_predictions", "sampling")},
        "webhooks": [{key: value for key, value in hook.items() if key != "updated_at"} for hook in hooks],
        "rows": [{key: row[key] for key in ("id", "url", "title", "state", "auth_method")} for row in rows],
    }


def annotation(picture: Picture) -> dict[str, Any]:
    value = {"taxonomy": [list(picture.path)]}
    return {"result": [{"from_name": CONTROL, "to_name": "image", "type": "taxonomy", "value": value}]}


def next_task(owner: httpx.Client, project: int) -> dict[str, Any]:
    answer = owner.post("/api/dm/actions", params={"id": "next_task", "project": project}, json={})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_connecting_twice_sets_everything_up_once(
    ours: Ours, owner: httpx.Client, catalogue: tuple[Picture, ...], make_project: MakeProject
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
    wanted = panel_address(settings.url, str(project), credentials.project_key(str(project)), "image")
    assert panels_in(now["about"]["label_config"]) == [wanted]
    assert parse_label_config(now["about"]["label_config"]) == parse_label_config(before)

    record = ours.services.book.get(str(project))
    assert record.api_key is not None
    assert record.api_key.get_secret_value() == ours.label_studio.owner.token
    assert (record.label_studio_url, record.ml_backend) == (ours.label_studio.url, done.ml_backend)
    assert record.label_config == now["about"]["label_config"]

    again = ours.connect(project, NO_MODEL)
    assert again.panel == "unchanged"
    assert ours.questions == []
    assert state(owner, project) == now

    # The webhook passes our password by its secret, and the event is in the journal when the request ends.
    assert owner.post(f"/api/tasks/{tasks[0].id}/annotations/", json=annotation(tasks[0].picture)).status_code == 201
    ours.services.journal.fold()
    assert [saved.task_id for saved in ours.services.journal.annotations(str(project))] == [str(tasks[0].id)]


def test_what_was_broken_is_found_and_mended(
    ours: Ours, owner: httpx.Client, catalogue: tuple[Picture, ...], make_project: MakeProject
) -> None:
    project, _ = make_project("Mend", catalogue[:1])
    assert ours.doctor(project)["Label Studio"].fix.startswith("taxonomist connect")  # never connected
    done = ours.connect(project, NO_MODEL)
    right = state(owner, project)
    healthy = ours.doctor(project)
    assert {name: check.detail for name, check in healthy.items() if check.status == "fail"} == {}
    assert {name for name, check in healthy.items() if check.status == "warn"} - {"disk"} == {"backbone", "model"}
    assert set(healthy) >= {"token", "project", "taxonomy", "ML backend", "webhook", "pre-filling", "image"}

    hook = f"/api/webhooks/{done.webhook}/"
    config = right["about"]["label_config"]
    breaks: dict[str, tuple[str, Callable[[], httpx.Response]]] = {
        "header": ("webhook", lambda: owner.patch(hook, json={"headers": {}})),
        "inactive": ("webhook", lambda: owner.patch(hook, json={"is_active": False})),
        "events": ("webhook", lambda: owner.patch(hook, json={"send_for_all_actions": False})),
        "prefill": (
            "pre-filling",
            lambda: owner.patch(f"/api/projects/{project}", json={"show_collab_predictions": False}),
        ),
        "version": ("model version", lambda: owner.patch(f"/api/projects/{project}", json={"model_version": ""})),
        "panel": (
            "look-alike panel",
            lambda: owner.patch(
                f"/api/projects/{project}", json={"label_config": config.replace("&amp;amp;key=", "&amp;amp;key=0")}
            ),
        ),
    }
    for name, (check, break_it) in breaks.items():
        assert break_it().is_success, name
        assert ours.doctor(project)[check].status == "fail", name
        ours.connect(project, NO_MODEL)
        assert state(owner, project) == right, name
        assert ours.doctor(project)[check].status == "ok", name

    # A second webhook to the same address would send all events twice: it is turned off, not deleted.
    extra = {"project": project, "url": f"{ours.services.settings.url}/webhook", "send_for_all_actions": True}
    made = owner.post("/api/webhooks/", json=extra).json()
    assert ours.doctor(project)["webhook"].status == "warn"
    for _ in range(2):
        ours.connect(project, NO_MODEL)
        first, second = state(owner, project)["webhooks"]
        assert first == right["webhooks"][0]
        assert (second["id"], second["is_active"]) == (made["id"], False)
    assert ours.doctor(project)["webhook"].status == "ok"

    # Without its webhook nothing arrives; Label Studio makes none for a backend that is there already.
    for each in (first, second):
        assert owner.delete(f"/api/webhooks/{each['id']}/").is_success
    assert ours.doctor(project)["webhook"].status == "fail"
    ours.connect(project, NO_MODEL)
    assert len(state(owner, project)["webhooks"]) == 1

    # The config changed and nobody told us.
    ours.services.book.remember(str(project), label_config=config.replace("<View", "<View "))
    assert ours.doctor(project)["taxonomy"].status == "warn"


def test_a_server_that_moved_keeps_its_row_and_its_webhook(
    ours: Ours, owner: httpx.Client, catalogue: tuple[Picture, ...], make_project: MakeProject
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
    catalogue: tuple[Picture, ...],
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
        set_model_version(client, ours.services.book.get(name), version, *known(ours))
        about = client.project(name)
        [row] = client.ml_backends(name)
        if version == first:
            assert (about.model_version, row.title) == (first, first)
            continue
        assert (about.model_version, row.title, row.model_version) == (version, version, version)
        assert ours.doctor(project)["model version"].status == "ok"

        # Somebody turned pre-filling off and on: the project's version is empty, and the stream shows nothing.
        client.update_project(name, show_collab_predictions=False)
        client.update_project(name, show_collab_predictions=True)
        assert client.project(name).model_version == ""
        set_model_version(client, ours.services.book.get(name), version, *known(ours))
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
            Prediction(task.id, version, scores[task.id], annotation(task.picture)["result"]) for task in open_tasks
        )
        assert client.push_predictions(name, pushed) == 3
        query = {"project": project, "fields": "all"}
        shown = {
            task["id"]: task["predictions_score"] for task in owner.get("/api/tasks/", params=query).json()["tasks"]
        }
        assert {task: shown[task] for task in scores} == scores
        # With several annotations wanted, tasks that somebody has begun come before any sampling.
        assert owner.patch(f"/api/projects/{project}", json={"maximum_annotations": 1}).is_success
        assert owner.post(f"/api/tasks/{opened['id']}/annotations/", json={"result": []}).status_code == 201
        assert min(scores, key=scores.__getitem__) == next_task_of_a_stranger(ours, project)


def known(ours: Ours) -> tuple[Settings, Any]:
    return ours.services.settings, ours.services.credentials


def next_task_of_a_stranger(ours: Ours, project: int) -> int:
    """The task that somebody gets who has no task locked."""
    person = sign_up(ours.label_studio.url, ours.label_studio.owner, "stranger@example.com", "Annotator-2468")
    with person.client(ours.label_studio.url) as client:
        return int(next_task(client, project)["id"])


def test_a_row_that_was_deleted_is_reported_and_made_again(
    ours: Ours,
    owner: httpx.Client,
    client: LabelStudioClient,
    catalogue: tuple[Picture, ...],
    make_project: MakeProject,
) -> None:
    project, _ = make_project("Deleted", catalogue[:1])
    done = ours.connect(project, NO_MODEL)
    assert owner.delete(f"/api/ml/{done.ml_backend}").is_success
    with pytest.raises(LabelStudioError, match=f"taxonomist connect --project {project}"):
        set_model_version(client, ours.services.book.get(str(project)), "taxonomist-v1", *known(ours))
    assert ours.doctor(project)["ML backend"].status == "fail"
    ours.connect(project, NO_MODEL)
    now = state(owner, project)
    assert (len(now["rows"]), len(now["webhooks"])) == (1, 1)


def test_a_personal_access_token_does_all_of_it(
    ours: Ours, owner: httpx.Client, catalogue: tuple[Picture, ...], make_project: MakeProject
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
    assert checks["token"].detail.endswith("pat@example.com's")
    assert checks["image"].status == "ok"


def test_tasks_annotations_and_predictions(
    owner: httpx.Client, client: LabelStudioClient, catalogue: tuple[Picture, ...], make_project: MakeProject
) -> None:
    project, tasks = make_project("Tasks", catalogue[:6])
    name = str(project)
    submitted, skipped, both, *open_tasks = tasks
    skip = {"result": [], "was_cancelled": True}
    for task, bodies in (
        (submitted, [annotation(submitted.picture)]),
        (skipped, [skip]),
        (both, [skip, annotation(both.picture)]),
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
    assert exported[submitted.id]["data"] == {"image": submitted.uri}

    assert [task["id"] for task in client.tasks(name)] == sorted(task.id for task in tasks)
    assert {task["id"] for task in client.tasks(name, unlabelled=True)} == {task.id for task in open_tasks}

    # A path of today's config is stored; of a task that is gone, or a control that is not there, nothing.
    first, second, third = open_tasks
    result = annotation(first.picture)["result"]
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
    catalogue: tuple[Picture, ...],
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
        assert hint(stranger.user) == ACCESS_FIX
    with LabelStudioClient(label_studio.url, "aaa.bbb.ccc") as stranger:
        assert hint(stranger.user) == ACCESS_FIX
    assert "/projects/" in (hint(lambda: client.project("999999")) or "")
    assert hint(lambda: client.create_ml_backend(name, "http://127.0.0.1:1", "v1")) == REACH_FIX
    assert hint(lambda: client.create_webhook(name, "http://taxonomist:9090/webhook", {})) == DOTLESS_FIX
    with pytest.raises(LabelStudioError, match="nothing"):
        client.validate_config(name, '<View><Taxonomy name="t" toName="nothing"/></View>')
    with pytest.raises(LabelStudioError, match="Model version doesn't exist"):
        client.update_project(name, model_version="taxonomist-v99")

    # Our own server refuses a Label Studio that has no password, or another one.
    assert hint(lambda: client.create_ml_backend(name, ours.services.settings.url, "v1")) == BACKEND_AUTH_FIX
