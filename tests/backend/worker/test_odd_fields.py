"""Every value in every field that we read of every request: real HTTP, a real worker process.

None is answered with an error of ours, and afterwards both projects learn, and the commands run.
"""

from __future__ import annotations

import copy
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.backend.worker.two_projects import Backend
from tests.small_world import CONFIG

pytestmark = pytest.mark.slow

TEXTS = (
    *("", " ", "²", "١٢", "１２", "Ⅻ", "-0", "07", "0x10", "1e400", "NaN", "9" * 5000, "ö" * 150, "x" * 100_000),
    *(
        "a\nb\r\u2028\u0085",
        "\x1b[2J",
        "\ufeff1",
        "\u202e\u2066",
        "{project}%s%(a)s",
        "=cmd()",
        "<View/>",
        "%00",
        "%ff",
    ),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "10000-01-01T00:00:00Z"),
    *(
        "2026-11-24T10:00:00+24:00",
        "2026-06-30T23:59:60Z",
        "2026-11-24T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-W48-2",
    ),
    *("../../../../etc/passwd", "file:///etc/passwd", f"/data/upload/4/{'x' * 300}.jpg", "/data/upload/4/%ff%fe.jpg"),
    *("http://[::1/a.jpg", "http://a:99999999/a.jpg", "http://a:²/a.jpg", f"http://{'a' * 70}.xn--/a.jpg", "data:,a"),
    *("azure-blob://c/²?sig=a&sig=b", "s3://", f"https://h.test/{'a' * 5000}", "http://u:p@127.0.0.1:1/a.jpg"),
)
NUMBERS = (
    *("-0", "-0.0", "1.5", "1e400", "-1e400", "NaN", "-Infinity", "1e308", "5e-324", "9" * 4300, "9" * 4301),
    *(str(number) for number in (0, -1, 2**63, 2**64, -(2**63) - 1, 10**300, 10**18, -(10**11), 1795531934000)),
)
OTHERS = (
    *("true", "false", "null", "[]", "{}", "[[]]", "[null]", '[{"a": []}]', '{"id": 1, "id": [], "id": 2}'),
    *(r'"\ud800"', r'"\udc00\ud800"', '"\ud800"', r'"\u0000"', r'"/data/upload/4/a\u0000.jpg"', r'"http://a\ud800/b"'),
    *("[" * depth + "]" * depth for depth in (900, 10_000)),
    *('{"a": ' * depth + "1" + "}" * depth for depth in (900, 10_000)),
    f"[{', '.join(['1'] * 20_000)}]",
)
VALUES = [*(json.dumps(text) for text in TEXTS), *NUMBERS, *OTHERS]
"""As JSON, or what some clients send in its place."""

AT = "2026-11-24T10:00:00.000000Z"
PROJECT = {"id": 4, "label_config": CONFIG, "created_at": "2026-11-20T00:00:00Z"}
TASK = {"id": 1, "data": {"image": "/data/upload/4/1.jpg"}, "created_at": AT, "updated_at": AT, "total_predictions": 0}
REGION = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["Warm", "Red"]]}}
ANNOTATION = {
    **{"id": 1, "task": 1, "completed_by": 1, "created_at": AT, "updated_at": AT, "result": [REGION]},
    **{"was_cancelled": False, "ground_truth": False, "unique_id": "u", "lead_time": 1.5, "parent_prediction": None},
    **{"created_username": "a, 1", "reviews": [{"accepted": True, "created_at": AT}]},
}
OF_PROJECT = {"project": "4.1795132800"}
BODIES: dict[str, tuple[str, dict[str, Any], str]] = {  # route, body, and the one field that is changed, if not all
    "annotation": ("webhook", {"action": "ANNOTATION_CREATED", "annotation": ANNOTATION, "task": TASK}, ""),
    "annotations": (
        "webhook",
        {"action": "ANNOTATIONS_UPDATED", "annotations": [ANNOTATION], "tasks": [TASK]},
        "tasks",
    ),
    "deleted": ("webhook", {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]}, "annotations"),
    "tasks deleted": ("webhook", {"action": "TASKS_DELETED", "tasks": [{"id": 1}]}, "tasks"),
    "project": ("webhook", {"action": "PROJECT_UPDATED", "project": PROJECT}, ""),
    "start": ("webhook", {"action": "START_TRAINING", "project": PROJECT}, "action"),
    "setup": ("setup", {**OF_PROJECT, "schema": CONFIG, "hostname": "http://a.test", "access_token": "t" * 40}, ""),
    "predict": ("predict", {**OF_PROJECT, "tasks": [TASK], "label_config": CONFIG, "params": {"context": None}}, ""),
    "train": ("train", {"project": 4}, ""),
}


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value in a body, from the body itself on."""
    yield path
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def requests(name: str) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    """Yield each place of a body, and the body with each value there."""
    _, body, only = BODIES[name]
    if "action" in body and "project" not in body:
        body = {**body, "project": PROJECT}
    for path in places(body):
        if only and path and path[0] != only:
            continue
        changed: Any = copy.deepcopy(body)
        if path:
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = "HERE"
        text = json.dumps(changed) if path else '"HERE"'
        for value in VALUES:
            yield path, text.replace('"HERE"', value).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", BODIES)
def test_each_value_in_each_field_is_answered(backend: Backend, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", backend.process.port, timeout=60)
    statuses: Counter[int] = Counter()
    for path, body in requests(name):
        connection.request("POST", f"/{BODIES[name][0]}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 500, (path, body[:500], content)
        json.loads(content)
        statuses[answer.status] += 1
    connection.close()
    assert statuses[400]
    assert statuses[200] + statuses[201]
    assert backend.learns()
    assert backend.learns(4)
    assert httpx.get(f"{backend.process.url}/readyz").is_success
    assert "Traceback" not in backend.process.said(1_000_000)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "cp037", "latin-1", "gzip"]
)
def test_bodies_in_other_encodings(backend: Backend, encoding: str) -> None:
    text = json.dumps({"action": "ANNOTATION_CREATED", "annotation": ANNOTATION, "task": TASK, "project": PROJECT})
    body = text.replace("Red", "Röd").encode(encoding) if encoding != "gzip" else b"\x1f\x8b" + text.encode()
    for declared in (encoding, "utf-8", "²", ""):
        headers = {b"Content-Type": f"application/json; charset={declared}".encode()}
        answer = httpx.post(f"{backend.process.url}/webhook", content=body, headers=headers, timeout=60)
        assert answer.status_code in {201, 400}
    assert backend.learns()


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\xff", b"null", b"\xef\xbb\xbf", b"{}{}", b"'a'", b"NaN", b'{"action":']
)
@pytest.mark.parametrize("route", ["webhook", "setup", "predict", "train"])
def test_bodies_that_are_none(backend: Backend, route: str, body: bytes) -> None:
    assert backend.post(body, route) == 400


def test_the_commands_run_afterwards(backend: Backend) -> None:
    backend.send(lambda body: None)
    assert backend.learns()
    for command in (("status",), ("status", "--json"), ("retry",), ("labels", "list", "--project", "4")):
        assert "Traceback" not in backend.process.command(*command).stderr
