"""A server on loopback without a setting for the password: Label Studio gets one, and no web page controls it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from taxonomist.backend.demo.project import CatalogueImage
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.backend.web.serving import serving
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject, annotation, next_task, state
from tests.small_world import CONFIG

ATTACK = """<!doctype html><title>attack</title><body><script>
async function attack(server, bodies) {
  const seen = [], kinds = ["application/json", "text/plain", "application/x-www-form-urlencoded"];
  async function read(options, path) {
    try {
      const answer = await fetch(server + path, options);
      seen.push(answer.type + answer.status + await answer.text());
    } catch { seen.push("blocked"); }
  }
  for (const [path, body] of Object.entries(bodies)) {
    const text = JSON.stringify(body);
    for (const mode of ["cors", "no-cors", "same-origin"]) for (const kind of kinds)
      for (const credentials of ["omit", "include"])
        await read({method: "POST", mode, credentials, body: text, headers: {"Content-Type": kind}}, path);
    for (const type of kinds) navigator.sendBeacon(server + path, new Blob([text], {type}));
    const frame = document.createElement("iframe"), form = document.createElement("form");
    const field = document.createElement("input");
    frame.name = form.target = "frame" + path;
    form.method = "post"; form.enctype = "text/plain"; form.action = server + path;
    field.name = text.slice(0, -1) + ', "x": "'; field.value = '"}';
    form.append(field); document.body.append(frame, form);
    const loaded = new Promise(done => frame.onload = done);
    form.submit();
    await loaded;
  }
  for (const path of ["/metrics", "/versions", "/health"]) await read({}, path);
  return seen;
}
</script>"""


@contextmanager
def foreign_site() -> Iterator[int]:
    """Serve the page of another site on loopback; yield its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.encode())

        def log_message(self, format: str, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"])  # another site, and another port of the same one
@pytest.mark.parametrize("is_connected", [False, True])
def test_a_web_page_changes_nothing(browser: Browser, tmp_path: Path, site: str, is_connected: bool) -> None:
    settings = Settings(home=tmp_path / "home")
    services = Services(settings)
    if is_connected:
        services.projects.update("7", label_config=CONFIG, ml_backend=1, has_password=True)
    before = services.projects.get("7")
    forged = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 7, "label_config": CONFIG},
        "task": {"id": 1, "data": {"image": "a.jpg"}, "created_at": "2026-11-24T15:00:00Z"},
        "annotation": {
            "id": 1,
            "task": 1,
            "ground_truth": True,
            "created_at": "2026-11-24T15:00:00Z",
            "updated_at": "2026-11-24T15:00:00Z",
            "result": [],
        },
    }
    setup = {"project": "7.1", "schema": CONFIG, "hostname": "http://localhost:1", "access_token": "t"}
    bodies = {
        "/webhook": forged,
        "/webhook?": {"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}},
        "/setup": setup,
        "/predict": {"project": "7", "label_config": CONFIG, "tasks": [{"id": 1, "data": {"image": "a.jpg"}}]},
        "/train": {"project": 7},
    }
    with serving(services, settings) as port, foreign_site() as foreign:
        server = f"http://127.0.0.1:{port}"
        page = browser.new_page()
        page.goto(f"http://{site}:{foreign}/")
        seen = page.evaluate("([server, bodies]) => attack(server, bodies)", [server, bodies])
        page.close()
        assert len(seen) > 90
        assert {answer for answer in seen if answer != "blocked"} <= {"opaque0"}  # it reads nothing
        assert services.projects.get("7") == before
        assert services.jobs.waiting() == []
        assert services.journal.pending() == 0
        assert services.unfilled.count("7") == 0
        counted = httpx.get(f"{server}/metrics").text
        assert 'status="201"' not in counted
        assert not is_connected or httpx.post(f"{server}/webhook", json=forged).status_code == 401
        assert (
            is_connected or httpx.post(f"{server}/webhook", json=forged).status_code == 201
        )  # what a page could not do


def test_label_studio_gets_a_password_on_loopback(
    make_backend: Callable[..., BackendProcess],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
) -> None:
    project, tasks = make_project("Loopback", catalogue[:2])
    backend = make_backend(sync_every=0)
    body = {"project": str(project), "label_config": CONFIG, "tasks": []}
    assert httpx.post(f"{backend.url}/predict", json=body).status_code == 200  # before it is connected
    backend.command("connect", "--project", str(project), "--yes")
    assert httpx.post(f"{backend.url}/predict", json=body).status_code == 401
    training = {"action": "START_TRAINING", "project": {"id": project}}
    assert httpx.post(f"{backend.url}/webhook", json=training).status_code == 401
    [row] = state(owner, project)["rows"]
    assert (row["auth_method"], row["state"]) == ("BASIC_AUTH", "CO")
    assert owner.post(f"/api/tasks/{tasks[0].id}/annotations/", json=annotation(tasks[0].image)).status_code == 201
    assert next_task(owner, project)["predictions"]  # by /predict
    assert owner.post(f"/api/ml/{row['id']}/train").status_code == 200
    counted = httpx.get(f"{backend.url}/metrics").text
    for route, status in (("/webhook", 201), ("/setup", 200), ("/predict", 200)):
        assert f'taxonomist_requests_total{{route="{route}",status="{status}"}}' in counted
    checks = json.loads(backend.command("doctor", "--project", str(project), "--json").stdout)
    found = {check["name"]: check["status"] for check in checks}
    assert (found["ML backend"], found["webhook"]) == ("ok", "ok")
