"""The adapter for label-studio-ml under the second generation; tests/e2e runs it under the real first one.

2.x cannot be installed from PyPI, so a stand-in of its interface serves here; where the real one is installed, these
tests run on it.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER, load_credentials
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.web.app import create_app
from tests.backend.web import second_generation
from tests.small_world import CONFIG


def forget_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "taxonomist.backend.web.label_studio_ml" or name.partition(".")[0] == "label_studio_ml":
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings) -> Any:
    """The adapter's module, imported anew under 2.x, on the home folder of the other fixtures."""
    forget_adapter(monkeypatch)
    monkeypatch.setenv("TAXONOMIST_HOME", str(settings.home))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    if importlib.util.find_spec("label_studio_ml") is None:
        for name, module in second_generation.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    module = importlib.import_module("taxonomist.backend.web.label_studio_ml")
    assert module.SECOND_GENERATION
    return module


def under_framework(adapter: Any) -> FlaskClient:
    client: FlaskClient = adapter.make_app().test_client()
    return client


def setup_body(project: str = "7") -> dict[str, Any]:
    return {"project": f"{project}.1795531934", "schema": CONFIG, "hostname": "", "access_token": ""}


def predict_body(services: Services, config: str = CONFIG) -> dict[str, Any]:
    documents = list(services.catalog.documents("7"))[:6]
    tasks = [
        {"id": n, "data": {"image": document.projects["7"].uri}, "project": 7} for n, document in enumerate(documents)
    ]
    tasks.append({"id": 99, "data": {"image": "missing.jpg"}, "project": 7})
    params = {"login": None, "password": None, "context": None}
    return {"tasks": tasks, "project": "7.1795531934", "label_config": config, "params": params}


def test_without_the_framework_the_import_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_adapter(monkeypatch)
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*label-studio-ml-backend"):
        importlib.import_module("taxonomist.backend.web.label_studio_ml")


def test_it_predicts_what_our_own_server_predicts(adapter: Any, trained: Services) -> None:
    body = predict_body(trained)
    answer = under_framework(adapter).post("/predict", json=body)
    ours = create_app(trained.settings, trained).test_client().post("/predict", json=body)
    assert answer.get_json() == ours.get_json()
    results = answer.get_json()["results"]
    assert [bool(result["result"]) for result in results] == [True] * 6 + [False]
    assert {result["model_version"] for result in results} == {"taxonomist-v1"}


def test_the_version_in_setup_follows_a_promotion(adapter: Any, world: Services) -> None:
    client = under_framework(adapter)
    before = client.post("/setup", json=setup_body()).get_json()["model_version"]
    train(world, "7", lambda step, share: None)
    after = client.post("/setup", json=setup_body()).get_json()["model_version"]
    assert (before, after) == ("taxonomist-look-alikes-64", "taxonomist-v1")
    other = client.post("/setup", json=setup_body("8")).get_json()["model_version"]
    assert other == "taxonomist-look-alikes-0"


def test_a_project_with_extra_parameters_can_be_connected(adapter: Any, services: Services) -> None:
    body = setup_body() | {"extra_params": {"a": 1}}
    assert under_framework(adapter).post("/setup", json=body).get_json() == {
        "model_version": "taxonomist-look-alikes-0"
    }


def test_a_config_without_taxonomy_gets_an_empty_prediction_for_each_task(adapter: Any, trained: Services) -> None:
    config = '<View><Image name="image" value="$image"/><Rectangle name="box" toName="image"/></View>'
    results = under_framework(adapter).post("/predict", json=predict_body(trained, config)).get_json()["results"]
    assert results == [{"model_version": "taxonomist-v1", "score": 0.0, "result": []}] * 7


def test_called_outside_of_a_request_the_model_takes_project_and_config_from_itself(
    adapter: Any, trained: Services
) -> None:
    body = predict_body(trained)
    model = adapter.TaxonomistModel(project_id="7", label_config=CONFIG)
    inside = under_framework(adapter).post("/predict", json=body).get_json()["results"]
    assert model.predict(predict_body(trained)["tasks"], context={}) == inside
    assert model.predict([]) == []


def test_recorded_webhooks_are_remembered_as_by_our_own_server(
    adapter: Any, services: Services, captures: list[dict[str, Any]], tmp_path: Path
) -> None:
    client = under_framework(adapter)
    own = Services(Settings(home=tmp_path / "own"))
    ours = create_app(own.settings, own).test_client()
    hooks = [capture["body"] for capture in captures if capture["path"] == "/webhook"]
    for body in hooks:
        expected = ours.post("/webhook", json=body)
        answer = client.post("/webhook", json=body)
        assert answer.status_code == 201
        if "job" in expected.get_json():
            assert answer.get_json()["result"]["job"]
    services.journal.fold()
    own.journal.fold()
    projects = {str(body["project"]["id"]) for body in hooks}
    kept = {project: remembered(services, project) for project in projects}
    assert kept == {project: remembered(own, project) for project in projects}
    assert sum(len(annotations) for annotations, _, _ in kept.values()) > 10
    trainings = {job.project for job in own.jobs.waiting() if job.kind is JobKind.TRAIN}
    assert {job.project for job in services.jobs.waiting() if job.kind is JobKind.TRAIN} == trainings != set()


def remembered(services: Services, project: str) -> tuple[list[Any], list[Any], str]:
    annotations = [
        (record.annotation_id, record.updated_at, record.data) for record in services.journal.annotations(project)
    ]
    tasks = [(task.task_id, task.uri) for task in services.journal.tasks(project)]
    return annotations, tasks, services.projects.get(project).label_config


@pytest.mark.parametrize("generation", ["1.x", "2.x", "2.x by name"])
def test_fit_takes_the_arguments_of_both_generations(adapter: Any, services: Services, generation: str) -> None:
    data = {"project": {"id": 7, "label_config": CONFIG}}
    model = adapter.TaxonomistModel(project_id="7", label_config=CONFIG)
    match generation:
        case "1.x":
            answer = model.fit((), event="START_TRAINING", data=data, job_id="1795531934", workdir="/nowhere")
        case "2.x":
            answer = model.fit("START_TRAINING", data)
        case _:
            answer = model.fit(event="START_TRAINING", data=data, job_id="1795531934")
    (job,) = services.jobs.waiting()
    assert (job.kind, job.project) == (JobKind.TRAIN, "7")
    assert answer == {"status": "ok", "job": job.id}
    assert services.projects.get("7").label_config == CONFIG


def test_fit_without_an_event_trains_nothing(adapter: Any, services: Services) -> None:
    """The deprecated /train of 1.x calls it so."""
    assert adapter.TaxonomistModel().fit([{"id": 1}], None)["status"] == "ignored"
    assert services.jobs.waiting() == []


def test_an_unreadable_webhook_is_refused_in_one_line(adapter: Any) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": "../x", "label_config": CONFIG}, "annotation": {"id": 1}}
    answer = under_framework(adapter).post("/webhook", json=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"] == "No project number in '../x'."


def test_the_password_guards_it(adapter: Any, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_PASSWORD", "correct horse")
    client = under_framework(adapter)
    basic = {"Authorization": "Basic " + base64.b64encode(b"taxonomist:correct horse").decode()}
    secret = {SECRET_HEADER: load_credentials(services.settings).webhook_secret}
    training = {"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}}
    assert client.get("/health").status_code == 200
    refused = client.post("/setup", json=setup_body())
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="taxonomist"')
    assert client.post("/setup", json=setup_body(), headers=secret).status_code == 401
    assert client.post("/setup", json=setup_body(), headers=basic).status_code == 200
    assert client.post("/webhook", json=training).status_code == 401
    assert services.jobs.waiting() == []
    assert client.post("/webhook", json=training, headers=secret).status_code == 201
    assert client.post("/webhook", json=training, headers=basic).status_code == 201


def test_a_connected_project_needs_the_password_wherever_a_request_names_it(adapter: Any, trained: Services) -> None:
    """No password is set; the one that was made counts, as `connect` gives it to Label Studio."""
    trained.projects.update("7", has_password=True)
    client, body = under_framework(adapter), predict_body(trained)
    made = f"{trained.credentials.username}:{trained.credentials.password}".encode()
    basic = {"Authorization": "Basic " + base64.b64encode(made).decode()}
    secret = {SECRET_HEADER: trained.credentials.webhook_secret}
    training = {"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/setup", setup_body()),
        ("/predict", body),
        ("/predict", body | {"project": "8.1795531934"}),
        ("/predict", {name: value for name, value in body.items() if name != "project"}),
        ("/webhook", training),
    ]
    for path, sent in requests:
        assert client.post(path, json=sent).status_code == 401, (path, sent)
    assert JobKind.TRAIN not in {job.kind for job in trained.jobs.waiting()}
    for path, sent in requests[:3]:
        assert client.post(path, json=sent, headers=secret).status_code == 401, (path, sent)
        assert client.post(path, json=sent, headers=basic).status_code == 200, (path, sent)
    assert client.post("/webhook", json=training, headers=secret).status_code == 201
    assert client.post("/setup", json=setup_body("8")).status_code == 200  # a person added that one by hand


def test_it_refuses_to_serve_others_without_a_password(adapter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapter.main(["--host", "0.0.0.0"]) == 2
    assert "TAXONOMIST_PASSWORD" in capsys.readouterr().err
