"""How the client reports refusals of Label Studio. The answers of a real Label Studio are tested in tests/e2e."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from taxonomist.backend.label_studio import LabelStudioClient, Prediction, Project, Webhook
from taxonomist.backend.label_studio.failures import (
    ADDRESS_FIX,
    BACKEND_AUTH_FIX,
    DOTLESS_FIX,
    LEGACY_FIX,
    REACH_FIX,
    REVOKED_FIX,
    SSRF_FIX,
    explain,
    refusal,
)
from taxonomist.taxonomy.errors import LabelStudioError

# As Label Studio 1.23.2 answered.
SSRF = {"status_code": 403, "detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}
LEGACY = {
    "detail": "Authentication token no longer valid: "
    "legacy token authentication has been disabled for this organization"
}
DOTLESS = {"detail": "Validation error", "validation_errors": {"url": ["Enter a valid URL."]}}
DOWN = {
    "detail": "Validation error",
    "validation_errors": {
        "non_field_errors": [
            "Can't connect to ML backend http://127.0.0.1:1, health check failed. "
            '<a href="https://labelstud.io/guide/ml.html">Learn more</a> about it.'
        ]
    },
}
PASSWORD = {
    "validation_errors": {
        "non_field_errors": [
            "Able to connect to ML Server, but authentication parameters were either not provided or are incorrect."
        ]
    }
}


@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        (403, SSRF, SSRF_FIX),
        (401, LEGACY, LEGACY_FIX),
        (401, {"detail": "Invalid token."}, REVOKED_FIX),
        (400, DOTLESS, DOTLESS_FIX),
        (400, DOWN, REACH_FIX),
        (400, PASSWORD, BACKEND_AUTH_FIX),
        (200, "<html>a login page</html>", ADDRESS_FIX),
    ],
)
def test_each_refusal_names_its_fix(status: int, body: Any, fix: str) -> None:
    assert refusal("http://ls", "do it", status, body).hint == fix


@pytest.mark.parametrize(("status", "word"), [(403, "administrator"), (404, "number"), (502, "log")])
def test_other_refusals_have_a_hint_by_status(status: int, word: str) -> None:
    error = refusal("http://ls", "read project 4", status, {"detail": "No."})
    assert str(error).startswith(f"Cannot read project 4: Label Studio answered {status} (No).")
    assert word in (error.hint or "")


def test_the_ssrf_fix_names_the_settings() -> None:
    for name in ("USE_DEFAULT_BANNED_SUBNETS", "SSRF_PROTECTION_ENABLED", "ML_BLOCK_LOCAL_IP"):
        assert f"{name}=false" in SSRF_FIX


def test_reasons_are_one_line_without_html() -> None:
    assert explain(DOWN).endswith("health check failed. Learn more about it")
    assert explain(DOTLESS) == "url: Enter a valid URL"
    assert explain({"detail": {"a": ["x", {"b": "y"}]}}) == "a: x a: b: y"
    assert explain("text") == ""
    assert len(explain({"detail": "x" * 9999})) == 500


def test_a_projects_stamp_is_that_of_setup() -> None:
    made = datetime(2026, 11, 24, 18, 37, 47, 51882, tzinfo=UTC)
    project = Project("4", "p", "<View/>", made, True, "", "", 0, 0, 0)
    assert project.created == "1795545467"


def test_a_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(Webhook(1, "http://x/webhook", {"X": "s3cret"}, True, True, True))


@pytest.mark.parametrize("token", ["", "  ", "ключ"])
def test_what_cannot_be_a_token_is_refused_at_once(token: str) -> None:
    with pytest.raises(LabelStudioError, match="not ASCII"):
        LabelStudioClient("http://127.0.0.1:1", token)


def test_names_are_no_projects_of_label_studio() -> None:
    with LabelStudioClient("http://127.0.0.1:1", "t") as client, pytest.raises(LabelStudioError, match="its number"):
        client.project("furniture")


def test_nobody_answers() -> None:
    with LabelStudioClient("http://127.0.0.1:1", "t") as client, pytest.raises(LabelStudioError) as caught:
        client.version()
    assert "cannot be reached" in str(caught.value)
    assert caught.value.hint == ADDRESS_FIX


Answer = tuple[int, object]


@pytest.fixture
def stand_in() -> Iterator[Callable[[Callable[[str, Any], Answer]], str]]:
    """A server with faults that a real Label Studio cannot be brought to: give it (path, body) -> (status, answer)."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Callable[[str, Any], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = answer(self.path, json.loads(raw) if raw else None)
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_something_else_answers(stand_in: Callable[..., str]) -> None:
    for answer in ("<html>", {"hello": 1}, ["release"]):
        url = stand_in(lambda path, body, answer=answer: (200, answer))
        with LabelStudioClient(url, "t") as client, pytest.raises(LabelStudioError, match="it is not Label Studio"):
            client.version()


def test_an_unexpected_answer_is_an_error_of_ours(stand_in: Callable[..., str]) -> None:
    url = stand_in(lambda path, body: (200, "no JSON" if "whoami" in path else [1, 2]))
    with LabelStudioClient(url, "t") as client:
        for call in (client.user, lambda: client.project("4"), lambda: list(client.tasks("4"))):
            with pytest.raises(LabelStudioError):
                call()


def test_the_address_may_have_a_path(stand_in: Callable[..., str]) -> None:
    seen: list[str] = []

    def answer(path: str, body: Any) -> Answer:
        seen.append(path)
        return 200, {"release": "1.23.2", "access": "a.b.c", "email": "me@example.com", "username": "me"}

    with LabelStudioClient(stand_in(answer) + "/label-studio/", "aaa.bbb.ccc") as client:
        assert client.version() == "1.23.2"
        assert client.user() == "me@example.com"
    assert {path.partition("?")[0].rstrip("/") for path in seen} == {
        "/label-studio/api/version",
        "/label-studio/api/token/refresh",
        "/label-studio/api/current-user/whoami",
    }


def test_a_deleted_task_costs_only_its_own_prediction(stand_in: Callable[..., str]) -> None:
    stored: list[int] = []
    requests: list[int] = []

    def answer(path: str, body: Any) -> Answer:
        tasks = [item["task"] for item in body]
        requests.append(len(tasks))
        if {3, 700} & set(tasks):
            return 400, {"detail": "Validation error", "validation_errors": {"non_field_errors": ["task not found"]}}
        stored.extend(tasks)
        return 201, {"created": len(tasks)}

    with LabelStudioClient(stand_in(answer), "t") as client:
        count = client.push_predictions("4", (Prediction(task, "v1", 0.5, []) for task in range(1200)))
    assert count == 1198
    assert sorted(stored) == sorted(set(range(1200)) - {3, 700})
    assert requests[0] == 500
    assert len(requests) < 60


def test_a_push_is_never_repeated_by_itself(stand_in: Callable[..., str]) -> None:
    calls: list[str] = []

    def busy(path: str, _body: Any) -> Answer:
        calls.append(path)
        return 503, {"detail": "busy"}

    url = stand_in(busy)
    with LabelStudioClient(url, "t") as client, pytest.raises(LabelStudioError, match="503"):
        client.push_predictions("4", [Prediction(1, "v1", 0.5, [])])
    assert len(calls) == 1


def test_tasks_are_read_by_their_last_id(stand_in: Callable[..., str]) -> None:
    """Tasks vanish while they are read; none that stays is missed, as it would be with page numbers."""
    from urllib.parse import parse_qs, urlsplit

    alive = list(range(1, 1001))

    def answer(path: str, body: Any) -> Answer:
        query = parse_qs(urlsplit(path).query)
        items = json.loads(query["query"][0])["filters"]["items"]
        [after] = [item["value"] for item in items if item["filter"] == "filter:tasks:id"]
        page = [task for task in alive if task > after][: int(query["page_size"][0])]
        del alive[:50]
        tasks = [{"id": task, "data": {"image": f"{task}.jpg"}, "project": 4} for task in page]
        return 200, {"total": len(alive), "tasks": tasks, "total_annotations": 0, "total_predictions": 0}

    with LabelStudioClient(stand_in(answer), "t") as client:
        seen = [task["id"] for task in client.tasks("4")]
    assert seen == list(range(1, 1001))
