"""The routes, with the worst that arrives at them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from tests.small_world import CONFIG, PATHS, image_bytes


def client_of(services: Services) -> FlaskClient:
    return create_app(services.settings, services).test_client()


def predict(
    services: Services, *uris: object, config: str = CONFIG, project: str = "7.1795531934"
) -> list[dict[str, Any]]:
    tasks = [{"id": number, "data": {"image": uri}} for number, uri in enumerate(uris, start=1)]
    body = {"tasks": tasks, "project": project, "label_config": config, "params": {"context": None}}
    answer = client_of(services).post("/predict", json=body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    results: list[dict[str, Any]] = answer.get_json()["results"]
    assert len(results) == len(uris)
    return results


def new_image(services: Services, path: tuple[str, ...], name: str = "new.jpg") -> str:
    folder = services.projects.get("7").image_folders[0].folders[0]
    (folder / name).write_bytes(image_bytes(path, seed=999))
    return str(folder / name)


def suggested(result: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(result["result"][0]["value"]["taxonomy"][0]) if result["result"] else None


def test_a_trained_project_is_suggested_in_full(trained: Services) -> None:
    uris = [new_image(trained, path, f"{path[-1]}.jpg") for path in PATHS]
    results = predict(trained, *uris)
    assert [suggested(result) for result in results] == list(PATHS)
    for result in results:
        assert result["model_version"] == "taxonomist-v1"
        assert 0.5 < result["score"] <= 1
        assert result["result"][0]["from_name"] == "colour"
        assert result["result"][0]["to_name"] == "image"
        assert result["result"][0]["type"] == "taxonomy"


def test_setup_and_predict_name_one_version(trained: Services) -> None:
    client = client_of(trained)
    setup = client.post("/setup", json={"project": "7.1", "schema": CONFIG, "hostname": "", "access_token": "t"})
    assert setup.get_json()["model_version"] == predict(trained, "x")[0]["model_version"]


def test_look_alikes_vote_before_there_is_a_model(world: Services) -> None:
    embed_all(world, "7", lambda step, share: None)
    (result,) = predict(world, new_image(world, ("Cold", "Blue")))
    assert suggested(result) == ("Cold", "Blue")
    assert result["model_version"] == "taxonomist-look-alikes-64"  # 80 labels


def test_no_labels_no_suggestion(services: Services) -> None:
    (result,) = predict(services, "/data/upload/1/a.jpg")
    assert result == {"model_version": "taxonomist-look-alikes-0", "score": 0.0, "result": []}


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "   ",
        7,
        ["a.jpg"],
        "../../etc/passwd",
        "file:///etc/passwd",
        "ftp://host/a.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://user:pass@host/a.jpg",
        "/data/upload/1/not-there.jpg",
        "/data/local-files/?d=../../etc/passwd",
        "s3://bucket/a.jpg",
        "http://[broken",
        "a\x00b.jpg",
        "x" * 5000,
    ],
)
def test_a_bad_address_costs_its_own_task_only(trained: Services, uri: object) -> None:
    good = new_image(trained, PATHS[0])
    before, bad, after = predict(trained, good, uri, good)
    assert suggested(before) == suggested(after) == PATHS[0]
    assert bad["result"] == []
    assert bad["score"] == 0.0


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\xff\xd8\xff\xe0" + b"\0" * 50, image_bytes(PATHS[0], 1)[:300]]
)
def test_a_broken_image_costs_its_own_task_only(trained: Services, content: bytes) -> None:
    uri = new_image(trained, PATHS[0], "broken.jpg")
    Path(uri).write_bytes(content)
    bad, good = predict(trained, uri, new_image(trained, PATHS[1]))
    assert bad["result"] == []
    assert suggested(good) == PATHS[1]


def test_a_config_without_taxonomy(trained: Services) -> None:
    flat = '<View><Image name="i" value="$image"/><Rating name="r" toName="i"/></View>'
    assert predict(trained, "a.jpg", "b.jpg", config=flat)[1]["result"] == []
    answer = client_of(trained).post("/setup", json={"project": "7", "schema": flat})
    assert answer.status_code == 400
    assert "axonomy" in answer.get_json()["error"]


def test_a_config_that_lost_a_node_gets_the_parent(trained: Services) -> None:
    uri = new_image(trained, ("Warm", "Red"))
    without_red = CONFIG.replace('<Choice value="Red"/>', "")
    assert suggested(predict(trained, uri, config=without_red)[0]) == ("Warm",)
    without_warm = CONFIG.replace('"Warm"', '"Hot"')
    assert predict(trained, uri, config=without_warm)[0]["result"] == []


def test_a_config_that_wants_leafs_gets_no_parent(trained: Services) -> None:
    uri = new_image(trained, ("Warm", "Red"))
    changed = CONFIG.replace('<Choice value="Red"/>', "").replace("<Taxonomy ", '<Taxonomy leafsOnly="true" ')
    assert predict(trained, uri, config=changed)[0]["result"] == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"tasks": {}}', b'{"tasks": [1]}', b"\xff"]
)
@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook", "/train"])
def test_nonsense_is_a_clear_error(client: FlaskClient, route: str, body: bytes) -> None:
    answer = client.post(route, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["error"]


def test_an_unknown_action_is_no_error(client: FlaskClient) -> None:
    answer = client.post("/webhook", json={"action": "LABEL_LINK_CREATED", "project": {"id": 1}})
    assert answer.status_code == 201


def test_a_huge_or_unknown_project_name_is_refused(client: FlaskClient) -> None:
    for project in ("../../x", "x" * 300, "a/b"):
        answer = client.post("/setup", json={"project": project, "schema": CONFIG})
        assert answer.status_code == 400, project


def test_start_training_gives_a_job_and_asks_once(client: FlaskClient, services: Services) -> None:
    body = {"action": "START_TRAINING", "project": {"id": 4, "label_config": CONFIG}}
    first, second = (client.post("/webhook", json=body).get_json()["job"] for _ in range(2))
    assert first == second
    assert [job.id for job in services.jobs.waiting()] == [first]


def test_a_promotion_is_served_by_the_next_request(trained: Services) -> None:
    client = client_of(trained)
    uri = new_image(trained, PATHS[2])
    body = {"tasks": [{"id": 1, "data": {"image": uri}}], "project": "7", "label_config": CONFIG}

    def version() -> Any:
        return client.post("/predict", json=body).get_json()["results"][0]["model_version"]

    assert version() == "taxonomist-v1"
    name = "project-7"
    with trained.registry.stage(name) as folder:
        old = trained.registry.get(name, "v1")
        for file in old.files:
            (folder / file).write_bytes((old.path / file).read_bytes())
        manifest = {key: old.manifest[key] for key in old.manifest if key not in {"files", "digest", "published_at"}}
        new = trained.registry.publish(name, folder, manifest)
    assert version() == "taxonomist-v1"
    trained.registry.promote(name, new.version)
    assert version() == "taxonomist-v2"
    trained.registry.rollback(name)
    assert version() == "taxonomist-v1"


def test_a_damaged_champion_leaves_the_served_one(trained: Services) -> None:
    client = client_of(trained)
    body = {"tasks": [{"id": 1, "data": {"image": "x"}}], "project": "7", "label_config": CONFIG}
    client.post("/predict", json=body)
    head = trained.registry.get("project-7", "v1").path / "head.safetensors"
    head.chmod(0o644)
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(bytes(data))
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    fresh = predict(trained, new_image(trained, PATHS[0]))[0]
    assert fresh["model_version"]


def test_watching(client: FlaskClient, services: Services) -> None:
    assert client.get("/livez").get_json()["status"] == "alive"
    ready = client.get("/readyz").get_json()
    assert (ready["status"], ready["worker"]) == ("ready", "not seen")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'taxonomist_requests_total{route="/readyz",status="200"} 1.0' in text


def test_bodies_and_tokens_are_not_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = "3f1c0ffee0123456789"
    client.post(
        "/setup", json={"project": "1", "schema": CONFIG, "hostname": "http://localhost:1", "access_token": secret}
    )
    client.post("/setup", json={"project": "", "schema": "<bad", "access_token": secret})
    client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"x": secret}})
    assert secret not in caplog.text
    assert secret not in json.dumps([record.__dict__ for record in caplog.records], default=str)


def test_an_image_scores_the_same_at_first_sight_as_ever_after(trained: Services) -> None:
    uri = new_image(trained, PATHS[3], "twice.jpg")
    (fresh,), (stored,) = predict(trained, uri), predict(trained, uri)
    assert fresh == stored
