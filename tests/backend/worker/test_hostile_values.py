"""A bad value of one project stops no other: real HTTP, a real worker process, started once for all values."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.backend.worker.two_projects import Backend
from tests.small_world import CONFIG, PATHS, image_bytes

pytestmark = pytest.mark.slow
LONG = "9" * 5000


def set_in(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Return the change that sets a field of a webhook."""

    def change(body: dict[str, Any]) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


def unchanged(body: dict[str, Any]) -> None:
    pass


def person(value: object) -> Callable[[Backend], object]:
    return lambda backend: backend.send(set_in("annotation", "completed_by", value=value))


def project(name: object) -> Callable[[Backend], object]:
    return lambda backend: backend.send(set_in("project", "id", value=name))


def config(xml: object) -> Callable[[Backend], object]:
    return lambda backend: backend.send(set_in("project", "label_config", value=xml))


def result(value: object) -> Callable[[Backend], object]:
    return lambda backend: backend.send(set_in("annotation", "result", value=value))


def tree_region(paths: object) -> dict[str, Any]:
    return {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": paths}}


def many_unknown_names(backend: Backend) -> int:
    """Each is compared with all names of the taxonomy, to say which one was meant."""
    choices = "".join(f'<Choice value="node {number} of a large taxonomy"/>' for number in range(5000))

    def change(body: dict[str, Any]) -> None:
        body["project"]["label_config"] = CONFIG.replace('<Choice value="Warm">', f'{choices}<Choice value="Warm">')
        body["annotation"]["result"] = [tree_region([[f"name {number}"] for number in range(100_000)])]

    return backend.send(change)


def start_training_after(send: Callable[[Backend], object]) -> Callable[[Backend], object]:
    """Press Start training once the worker has decided what was sent."""

    def press(backend: Backend) -> int:
        send(backend)
        assert backend.learns()
        return backend.post(json.dumps({"action": "START_TRAINING", "project": {"id": 4}}))

    return press


def in_data(text: str) -> Callable[[Backend], object]:
    """Put JSON into the data of the task and of the annotation."""

    def send(backend: Backend) -> int:
        def change(body: dict[str, Any]) -> None:
            body["task"]["data"]["odd"] = body["annotation"]["lead_time"] = "ODD"

        return backend.send(change, ODD=text)

    return send


def import_csv(annotator: str) -> Callable[[Backend], object]:
    def send(backend: Backend) -> None:
        folder = backend.process.home.parent / "manifest"
        folder.mkdir(exist_ok=True)
        (folder / "a.jpg").write_bytes(image_bytes(PATHS[0], 1))
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerows([["file", "level1", "level2", "annotator"], ["a.jpg", *PATHS[0], annotator]])
        manifest = str(folder / "manifest.csv")
        project = f"furniture {next(backend.numbers)}"
        backend.process.command("import", manifest, "--project", project, "--images", str(folder))

    return send


def event(kind: str, body: str, received_at: float = 1e9) -> Callable[[Backend], object]:
    statement = "INSERT INTO events (key, project, kind, received_at, body) VALUES (?, '4', ?, ?, ?)"
    return lambda backend: backend.execute("journal.sqlite", statement, kind + body, kind, received_at, body)


def annotation_in_state(data: str) -> Callable[[Backend], object]:
    """Damage the annotation that is kept, and let its image be decided."""

    def damage(backend: Backend) -> None:
        backend.send(unchanged)
        assert backend.learns()
        backend.execute("journal.sqlite", "UPDATE annotations SET data = ? WHERE project = '4'", data)
        statement = "INSERT INTO dirty SELECT project, image_id, 1 FROM annotations WHERE project = '4'"
        backend.execute("journal.sqlite", f"{statement} ON CONFLICT DO NOTHING")

    return damage


def document(body: str) -> Callable[[Backend], object]:
    """Damage the documents of project 4, and let them be decided."""

    def damage(backend: Backend) -> None:
        backend.send(unchanged)
        assert backend.learns()
        of_project = "id IN (SELECT image_id FROM memberships WHERE project = '4')"
        backend.execute("catalog.sqlite", f"UPDATE documents SET body = ? WHERE {of_project}", body)
        backend.send(unchanged)
        statement = "INSERT INTO dirty SELECT project, image_id, 1 FROM annotations WHERE project = '4'"
        backend.execute("journal.sqlite", f"{statement} ON CONFLICT DO NOTHING")

    return damage


def document_and_another_taxonomy(backend: Backend) -> None:
    """A changed taxonomy decides all images of the project again, so its step reads the damaged documents."""
    document("{")(backend)
    backend.send(set_in("project", "label_config", value=CONFIG.replace("Red", f"Red {next(backend.numbers)}")))


def job(kind: str, state: str) -> Callable[[Backend], object]:
    statement = "INSERT INTO jobs (id, kind, project, state, reason, asked_at) VALUES (?, ?, '4', ?, '', 0)"
    return lambda backend: backend.execute("jobs.sqlite", statement, f"{kind}-{state}", kind, state)


def record(content: bytes) -> Callable[[Backend], object]:
    def damage(backend: Backend) -> None:
        (backend.process.home / "projects" / "4.json").write_bytes(content)

    return damage


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


DAMAGED = '{"project": '
VALUES: dict[str, Callable[[Backend], object]] = {
    "annotator ²": person("²"),
    "annotator of 5,000 digits": person(LONG),
    "annotator 1e300": person(10**300),
    "annotator of another script": person("٣"),
    "annotator with NUL": person("a\0b"),
    "annotator with an id ²": person({"id": "²"}),
    "annotator that is a list": person([1]),
    "annotation id of 5,000 digits": lambda backend: backend.send(set_in("annotation", "id", value=LONG)),
    "annotation id of 199 digits": lambda backend: backend.send(set_in("annotation", "id", value="9" * 199)),
    "annotation id ²": lambda backend: backend.send(set_in("annotation", "id", value="²")),
    "task id of 5,000 digits": lambda backend: backend.send(set_in("task", "id", value=LONG)),
    "number of 5,000 digits": in_data(LONG),
    "number of 4,000 digits": in_data("9" * 4000),
    "1e400": in_data("1e400"),
    "-1e400": in_data("-1e400"),
    "NaN": in_data("NaN"),
    "Infinity": in_data("[-Infinity, NaN]"),
    "half a character": in_data(r'"\ud800"'),
    "half a character in UTF-8": in_data('"\ud800"'),
    "NUL": in_data(r'"\u0000"'),
    "half a character as a unique id": lambda backend: backend.send(
        set_in("annotation", "unique_id", value="ODD"), ODD=r'"\udc00"'
    ),
    "nested 500 deep": in_data(deep(500)),
    "nested 900 deep": in_data(deep(900)),
    "nested 10,000 deep": in_data(deep(10_000)),
    "project of 300 bytes": project("ö" * 150),
    "project of 100 letters of two bytes": project("ö" * 100),
    "project of 60 letters of three bytes": project("語" * 60),
    "project of 300 letters": project("x" * 300),
    "project with a slash": project("../4"),
    "project that is a number with 5,000 digits": project(LONG),
    "project named ²": project("²"),
    "project that is an object": project({"id": 4}),
    "labelling config 5": config(5),
    "labelling config without taxonomy": config("<View/>"),
    "labelling config that is no XML": config("<View>\0"),
    "labelling config nested 10,000 deep": config("<View>" * 10_000 + "</View>" * 10_000),
    "choices nested 10,000 deep": config(
        CONFIG.replace('<Choice value="Red"/>', '<Choice value="x">' * 10_000 + "</Choice>" * 10_000)
    ),
    "maxUsages of 5,000 digits": config(CONFIG.replace('name="colour"', f'name="colour" maxUsages="{LONG}"')),
    "maxUsages ²": config(CONFIG.replace('name="colour"', 'name="colour" maxUsages="²"')),
    "value with an index of 5,000 digits": config(CONFIG.replace("$image", f"$image[{LONG}]")),
    "time out of range": lambda backend: backend.send(
        set_in("annotation", "updated_at", value="9999-12-31T23:59:59-23:59")
    ),
    "time of the project out of range": lambda backend: backend.send(
        set_in("project", "created_at", value="0001-01-01T00:00:00+14:00")
    ),
    "result that is a number": result(5),
    "result with odd regions": result(
        [5, None, [], {"from_name": []}, {"from_name": "colour", "value": {"taxonomy": 5}}]
    ),
    "path with numbers": result([{"from_name": "colour", "value": {"taxonomy": [[10**400, 5]]}}]),
    "path of 300,000 levels": start_training_after(result([tree_region([["a"] * 300_000])])),
    "100,000 names that a large taxonomy does not have": many_unknown_names,
    "setup with a time of 5,000 digits": lambda backend: backend.post(
        json.dumps({"project": f"4.{LONG}", "schema": CONFIG}), "setup"
    ),
    "CSV with the annotator ²": import_csv("²"),
    "CSV with an annotator of 150 digits": import_csv("9" * 150),
    "event that is no JSON": event("annotation-saved", "{"),
    "event of another kind": event("annotation-merged", "{}"),
    "event without fields": event("annotation-saved", "{}"),
    "event nested 10,000 deep": event("task-saved", deep(10_000)),
    "event at a time that is none": event("task-deleted", '{"project":"4"}', 1e300),
    "annotation that is no JSON": annotation_in_state("{"),
    "annotation nested 10,000 deep": annotation_in_state(deep(10_000)),
    "document that is no JSON": document("{"),
    "document that is a list": document("[]"),
    "document nested 10,000 deep": document(deep(10_000)),
    "document that is no JSON, and another taxonomy": document_and_another_taxonomy,
    "job of another kind": job("dance", "waiting"),
    "job in another state": job("train", "asleep"),
    "record cut off": record(DAMAGED.encode()),
    "record nested 10,000 deep": record(deep(10_000).encode()),
    "record of half characters": record(b'{"project": "\\ud800"}'),
}


@pytest.mark.parametrize("value", VALUES)
def test_the_other_project_still_learns(backend: Backend, value: str) -> None:
    kept = backend.process.home / "projects" / "4.json"
    before = kept.read_bytes() if kept.exists() else None
    status = VALUES[value](backend)
    assert not isinstance(status, int) or status < 500, status
    assert backend.learns()
    assert httpx.get(f"{backend.process.url}/readyz").is_success
    if before is not None and not value.startswith("record"):
        json.loads(kept.read_bytes())  # never written unreadable
    elif before is not None:
        kept.write_bytes(before)  # the next value is of a project that works
