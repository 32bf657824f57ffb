"""A stand-in for Label Studio's API, for answers and states that a real one cannot be brought to.

It answers like Label Studio 1.23.2 as far as our client asks; the real one is in tests/e2e.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.small_world import CONFIG

CREATED = "2026-11-24T14:52:14.675011Z"
SOURCE = "4.1795531934"
DAY = "2026-11-24T15:00:00Z"
RED, BLUE, GREEN = ["Warm", "Red"], ["Cold", "Blue"], ["Cold", "Green"]


class StandIn(AbstractContextManager["StandIn"]):
    """A project of a Label Studio, with its tasks, annotations, predictions, ML backends, webhooks and tabs, by id.

    `answer` may replace an answer: it gets method, path and answer, and returns the answer to send. `refuse` may give
    a request an error status instead: it gets method and path.
    """

    def __init__(self, number: int = 4) -> None:
        self.number = number
        self.created_at = CREATED
        self.label_config = CONFIG
        self.tasks: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        self.predictions: dict[int, dict[str, Any]] = {}
        self.ml_backends: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.tabs: dict[int, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}  # images by path
        self.answers: dict[str, Any] = {}  # further answers by path
        self.answer: Callable[[str, str, Any], Any] = lambda method, path, answer: answer
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        self.tokens: set[str] = set()  # that it accepts; none: any
        self.drafts: set[int] = set()  # the tasks with a draft
        self.changing: set[int] = set()  # the annotations with a draft
        self.changes_annotations: dict[str, Any] = {}  # what it makes of those that are written through the API
        self.overlap = 1  # annotations of a completed task
        self.lock = threading.RLock()  # for tests that change it while it answers
        self._changes = itertools.count(1)
        self.model_version = ""  # that annotators see
        self.missing = ""  # a field that an odd answer about the project lacks
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add_task(self, id: int, uri: str, **fields: Any) -> None:
        task = {"id": id, "project": self.number, "data": {"image": uri}, "created_at": DAY, "updated_at": DAY}
        self.tasks[id] = {**task, **fields}

    def annotate(self, id: int, task: int, person: int | None, *paths: list[str], **fields: Any) -> None:
        value = {"taxonomy": list(paths)}
        region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": value}
        self.annotations[id] = {
            "id": id,
            "task": task,
            "project": self.number,
            "completed_by": person,
            "created_at": DAY,
            "updated_at": DAY,
            "lead_time": 4.7,
            "parent_prediction": None,
            "was_cancelled": False,
            "ground_truth": False,
            "unique_id": f"unique-{id}",
            "result": [region] if paths else [],
            **fields,
        }

    def predict(self, task: int, version: str, result: list[Any], score: float = 0.5) -> None:
        id = max(self.predictions, default=0) + 1
        prediction = {"id": id, "task": task, "model_version": version, "score": score, "result": result}
        self.predictions[id] = {**prediction, "updated_at": self._now()}

    def introduce_itself(self) -> None:
        """Answer what connect and the doctor ask before all else."""
        self.answers |= {
            "/api/version": {"release": "1.23.2"},
            "/api/current-user/whoami": {"id": 1, "email": "me@example.com", "username": "me"},
            "/api/ml": [],
            "/api/webhooks": [],
        }

    def _now(self) -> str:
        return f"2026-11-24T16:00:00.{next(self._changes):06d}Z"

    def project(self) -> dict[str, Any]:
        submitted = [found for found in self.annotations.values() if not found["was_cancelled"]]
        fields = {
            "id": self.number,
            "title": "stand-in",
            "label_config": self.label_config,
            "created_at": self.created_at,
            "show_collab_predictions": True,
            "model_version": self.model_version,
            "task_number": len(self.tasks),
            "total_annotations_number": len(submitted),
            "skipped_annotations_number": len(self.annotations) - len(submitted),
            "num_tasks_with_annotations": len({found["task"] for found in submitted}),
        }
        return {name: value for name, value in fields.items() if name != self.missing}

    def webhook(self, action: str, id: int) -> dict[str, Any]:
        """Return the body of a webhook about an annotation."""
        annotation = self.annotations[id]
        return {
            "action": action,
            "project": self.project(),
            "task": self.tasks[annotation["task"]],
            "annotation": annotation,
        }

    def _task(self, id: int) -> dict[str, Any]:
        own = [found for found in self.predictions.values() if found["task"] == id]
        annotations = [found for found in self.annotations.values() if found["task"] == id]
        return {
            **self.tasks[id],
            "annotations": annotations,
            "predictions": own,
            "total_annotations": sum(not found["was_cancelled"] for found in annotations),
            "cancelled_annotations": sum(found["was_cancelled"] for found in annotations),
            "total_predictions": len(own),
            "predictions_model_versions": sorted({found["model_version"] for found in own}),
            "draft_exists": id in self.drafts,
            "is_labeled": sum(not found["was_cancelled"] for found in annotations) >= self.overlap,
        }

    def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        filters = json.loads(query["query"][0])["filters"]
        is_chosen = any if filters["conjunction"] == "or" else all
        conditions = [(item["filter"].rpartition(":")[2], item["operator"], item["value"]) for item in filters["items"]]
        tasks = [
            task
            for task in map(self._task, sorted(self.tasks))
            if is_chosen(_holds(task, *condition) for condition in conditions)
        ]
        if query["fields"] == ["task_only"]:
            tasks = [{**task, "annotations": [], "predictions": []} for task in tasks]
        return {"tasks": tasks, "total": len(tasks), "total_annotations": 0, "total_predictions": 0}

    def _accepts(self, address: str, authorization: str) -> bool:
        is_public = urlsplit(address).path.rstrip("/") == "/api/version"
        return is_public or not self.tokens or authorization.rpartition(" ")[2] in self.tokens

    def _respond(self, method: str, address: str, body: Any) -> tuple[int, Any]:
        path, query = urlsplit(address).path.rstrip("/"), parse_qs(urlsplit(address).query)
        if (status := self.refuse(method, path)) is not None:
            return status, {"detail": "refused"}
        with self.lock:
            return self._answer(method, path, query, body)

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path in self.answers:
            return 200, self.answers[path]
        match method, path.replace(f"/api/projects/{self.number}", "/api/projects/N"):
            case "GET", "/api/projects/N":
                return 200, self.project()
            case "PATCH", "/api/projects/N":
                known = {row["title"] for row in self.ml_backends.values()}
                known |= {found["model_version"] for found in self.predictions.values()}
                if body.get("model_version", self.model_version) not in known | {self.model_version}:
                    return 400, {"model_version": ["Model version doesn't exist"]}
                self.model_version = body.get("model_version", self.model_version)
                self.label_config = body.get("label_config", self.label_config)
                return 200, self.project()
            case "GET", "/api/tasks":
                return 200, self._list(query)
            case "GET", "/api/projects/N/model-versions":
                return 200, dict(Counter(found["model_version"] for found in self.predictions.values()))
            case "POST", "/api/projects/N/import/predictions":
                for prediction in body:
                    values = (prediction[name] for name in ("task", "model_version", "result", "score"))
                    self.predict(*values)
                return 201, {"created": len(body)}
            case "GET", "/api/ml":
                return 200, list(self.ml_backends.values())
            case "GET", "/api/webhooks":
                return 200, list(self.webhooks.values())
            case "GET", "/api/dm/views":
                return 200, list(self.tabs.values())
            case "POST", "/api/ml" | "/api/webhooks" | "/api/dm/views":
                rows = {"ml": self.ml_backends, "webhooks": self.webhooks, "views": self.tabs}[path.rpartition("/")[2]]
                id = max(rows, default=0) + 1
                rows[id] = {"id": id, **body}
                return 201, rows[id]
        if method == "PATCH" and (found := re.fullmatch(r"/api/(ml|webhooks)/(\d+)", path)):
            rows = self.ml_backends if found[1] == "ml" else self.webhooks
            rows[int(found[2])] |= body
            return 200, rows[int(found[2])]
        if method == "DELETE" and (found := re.fullmatch(r"/api/(ml|webhooks|dm/views)/(\d+)", path)):
            rows = {"ml": self.ml_backends, "webhooks": self.webhooks, "dm/views": self.tabs}[found[1]]
            return (204, None) if rows.pop(int(found[2]), None) else (404, {"detail": "Not found."})
        if (method, path) == ("POST", "/api/dm/actions") and query["id"] == ["delete_tasks_annotations"]:
            tasks, person = set(body["selectedItems"]["included"]), int(body["annotator"])
            gone = [
                id for id, row in self.annotations.items() if row["task"] in tasks and row["completed_by"] == person
            ]
            for id in gone:
                del self.annotations[id]
            return 200, {"processed_items": len(gone)}
        if method == "POST" and (found := re.fullmatch(r"/api/tasks/(\d+)/annotations", path)):
            return self._write_annotation(int(found[1]), body)
        if method == "GET" and (found := re.fullmatch(r"/api/tasks/(\d+)/drafts", path)):
            own = [id for id in self.changing if self.annotations[id]["task"] == int(found[1])]
            return 200, [{"id": id, "annotation": id} for id in own]
        if method == "DELETE" and (found := re.fullmatch(r"/api/annotations/(\d+)", path)):
            return (204, None) if self.annotations.pop(int(found[1]), None) else (404, {"detail": "Not found."})
        if method == "GET" and (found := re.fullmatch(r"/api/tasks/(\d+)", path)):
            id = int(found[1])
            return (200, self._task(id)) if id in self.tasks else (404, {"detail": "No Task matches."})
        if method == "PATCH" and (found := re.fullmatch(r"/api/predictions/(\d+)", path)):
            if int(found[1]) not in self.predictions:
                return 404, {"detail": "No Prediction matches."}
            self.predictions[int(found[1])] |= body | {"updated_at": self._now()}
            return 200, self.predictions[int(found[1])]
        if method == "DELETE" and (found := re.fullmatch(r"/api/predictions/(\d+)", path)):
            if self.predictions.pop(int(found[1]), None) is None:
                return 404, {"detail": "No Prediction matches."}
            return 204, None
        return 404, {"detail": f"{method} {path} is not known to the stand-in"}

    def _write_annotation(self, task: int, body: dict[str, Any]) -> tuple[int, Any]:
        if task not in self.tasks:
            return 404, {"detail": "No Task matches the given query."}
        if any(row["unique_id"] == body["unique_id"] for row in self.annotations.values()):
            return 409, {"detail": "Annotation with this unique id already exists"}
        id, now = max(self.annotations, default=0) + 1, self._now()
        self.annotate(id, task, body["completed_by"], created_at=now, updated_at=now, lead_time=None)
        given = {name: body[name] for name in ("result", "unique_id", "bulk_created")}
        self.annotations[id] |= given | self.changes_annotations
        return 201, {name: value for name, value in self.annotations[id].items() if name != "unique_id"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if (file := stand_in.files.get(urlsplit(self.path).path)) is not None:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(file)))
                    self.end_headers()
                    self.wfile.write(file)
                    return
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not stand_in._accepts(self.path, str(self.headers["Authorization"])):
                    status, answer = 401, {"detail": "Invalid token."}
                else:
                    status, answer = stand_in._respond(self.command, self.path, json.loads(raw) if raw else None)
                answer = stand_in.answer(self.command, urlsplit(self.path).path, answer)
                data = b"" if status == 204 else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _holds(task: dict[str, Any], name: str, operator: str, value: Any) -> bool:
    match operator:
        case "greater":
            return bool(task[name] > value)
        case "equal":
            return bool(task[name] == value)
        case "contains":  # Label Studio compares substrings
            return any(part in text for part in value for text in task[name])
        case "not_contains":
            return not any(part in text for part in value for text in task[name])
    raise ValueError(operator)
