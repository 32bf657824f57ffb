"""What is only looked at leaves nothing: Label Studio's sample in the preview of its settings, and unsaved tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import TaskSaved
from tests.small_world import CONFIG, image_bytes

BLUE = ("Cold", "Blue")


class Sample:
    """A Label Studio that serves its sample image, and our server beside it."""

    def __init__(self, services: Services, address: str) -> None:
        self.services = services
        self.uri = f"{address}/static/samples/sample.jpg"
        self.upload = f"{address}/data/upload/4/3f2a1b0c-a.jpg"
        self.tokens: list[tuple[str, str | None]] = []  # by path, what was sent to Label Studio
        services.projects.update("7", label_studio_url=address, api_key=SecretStr("t"))
        self.client: FlaskClient = create_app(services.settings, services).test_client()

    def page(self, uri: str) -> str:
        key = self.services.credentials.project_key("7")
        answer = self.client.get(f"/similar?project=7&key={key}&src={uri}")
        assert answer.status_code == 200
        return answer.get_data(as_text=True)

    def predict(self, *tasks: Any) -> list[dict[str, Any]]:
        body = {"tasks": list(tasks), "project": "7.1795531934", "label_config": CONFIG, "params": {"context": None}}
        answer = self.client.post("/predict", json=body)
        assert answer.status_code == 200
        results: list[dict[str, Any]] = answer.get_json()["results"]
        return results

    def kept(self) -> dict[str, Any]:
        """Return everything that grows when an image is stored."""
        services = self.services
        return {
            "files": sorted(str(path) for path in (services.home / "images").rglob("*") if path.is_file()),
            "documents": sorted(document.id for document in services.catalog.documents()),
            "embeddings": sorted(services.embeddings("v1").snapshot()[0]),
            "events": services.journal.position(),
            "suggestions": services.suggestions.count("7"),
            "unfilled": services.unfilled.count("7"),
        }


@pytest.fixture
def sample(trained: Services) -> Iterator[Sample]:
    running: list[Sample] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running[0].tokens.append((self.path, self.headers["Authorization"]))
            data = image_bytes(BLUE, 77)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append(Sample(trained, f"http://127.0.0.1:{server.server_port}"))
        yield running[0]
        server.shutdown()
        thread.join()


def test_the_sample_in_the_settings_has_look_alikes_and_leaves_nothing(sample: Sample) -> None:
    before = sample.kept()
    page = sample.page(sample.uri)
    assert "Cold › Blue" in page
    assert sample.page(sample.uri) == page
    assert sample.kept() == before


def test_an_image_of_the_project_is_stored_as_before(sample: Sample) -> None:
    before = sample.kept()
    (result,) = sample.predict({"id": 5, "data": {"image": sample.uri}})
    assert result["result"]
    after = sample.kept()
    added = {name: len(after[name]) - len(before[name]) for name in ("files", "documents", "embeddings")}
    assert added == {"files": 1, "documents": 1, "embeddings": 1}
    assert after["suggestions"] == before["suggestions"] + 1
    assert "Cold › Blue" in sample.page(sample.uri)


def test_a_sample_that_cannot_be_read_leaves_nothing(sample: Sample) -> None:
    before = sample.kept()
    assert "Cold" not in sample.page("http://nowhere.invalid/sample.jpg")
    assert sample.kept() == before


@pytest.mark.parametrize("id", [0, "", "0", -1, None])
def test_a_task_that_is_not_saved_is_answered_and_leaves_nothing(sample: Sample, id: object) -> None:
    before = sample.kept()
    (result,) = sample.predict({"id": id, "data": {"image": sample.uri}})
    assert bool(result["result"]) == (id is not None)
    assert sample.kept() == before


def test_beside_a_saved_task_only_the_preview_leaves_nothing(sample: Sample) -> None:
    other = sample.uri.replace("sample.jpg", "other.jpg")
    first, second = sample.predict({"id": 0, "data": {"image": sample.uri}}, {"id": 6, "data": {"image": other}})
    assert first["result"][0]["value"] == second["result"][0]["value"]
    ids = set(sample.kept()["embeddings"])
    assert image_id(other) in ids
    assert image_id(sample.uri) not in ids
    assert sample.services.suggestions.of_tasks("7", ["0"]) == []


def test_an_unreadable_preview_is_not_filled_later(sample: Sample) -> None:
    assert sample.predict({"id": 0, "data": {"image": "http://nowhere.invalid/a.jpg"}})[0]["result"] == []
    assert sample.services.unfilled.count("7") == 0


def test_a_preview_gets_the_scores_of_a_stored_image(sample: Sample) -> None:
    (preview,) = sample.predict({"id": 0, "data": {"image": sample.uri}})
    (stored,) = sample.predict({"id": 5, "data": {"image": sample.uri}})
    (again,) = sample.predict({"id": 0, "data": {"image": sample.uri}})
    assert preview == stored == again
    assert np.isfinite(preview["score"])


def test_what_a_browser_names_is_read_without_the_token(sample: Sample) -> None:
    address = sample.upload.partition("/data/")[0]
    for uri in (sample.upload, "/data/upload/4/3f2a1b0c-a.jpg", f"{address}/api/users", f"{address}/api/export?x=1"):
        sample.page(uri)
    assert len(sample.tokens) >= 3
    assert {token for _, token in sample.tokens} == {None}


def test_images_of_tasks_are_read_with_the_token(sample: Sample) -> None:
    sample.page(sample.upload)
    now = datetime(2026, 11, 27, tzinfo=UTC)
    source = sample.services.projects.get("7").source
    sample.services.journal.record(
        [
            TaskSaved(
                "7", source, "5", "/data/upload/4/3f2a1b0c-a.jpg", now, now, {"image": "/data/upload/4/3f2a1b0c-a.jpg"}
            )
        ]
    )
    sample.services.journal.fold()
    other = sample.upload.replace("/data/upload/", "/api/data/upload/")  # the same image to us, not to Label Studio
    assert "Cold › Blue" in sample.page(other)
    assert sample.tokens == [("/data/upload/4/3f2a1b0c-a.jpg", None), ("/data/upload/4/3f2a1b0c-a.jpg", "Token t")]


def test_a_preview_that_came_in_a_request_is_read_with_the_token(sample: Sample) -> None:
    sample.predict({"id": 0, "data": {"image": sample.upload}})
    assert "Cold › Blue" in sample.page(sample.upload)
    assert {token for _, token in sample.tokens} == {"Token t"}
