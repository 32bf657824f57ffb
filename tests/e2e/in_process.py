"""Our application in this process, and what a real Label Studio has of a project."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from werkzeug.serving import BaseWSGIServer, make_server

from taxonomist.backend.connection.connect import Connected, connect
from taxonomist.backend.connection.doctor import Check, run_checks
from taxonomist.backend.demo.project import CONTROL, CatalogueImage, DemoTask
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.web.app import create_app
from taxonomist.taxonomy.label_config import parse_label_config

MakeProject = Callable[..., tuple[int, tuple[DemoTask, ...]]]
"""Makes a project of a title and images; returns its number and its tasks."""


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
        settings = Settings(
            home=self.home, port=self._server.server_port, password=SecretStr("pass word:&"), blind_share=0
        )
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
            self.services.projects,
            url=self.label_studio.url,
            api_key=token or self.label_studio.owner.token,
            project=str(project),
            model_version=version,
            ask=ask,
            say=self.said.append,
        )

    def serve_version(self, project: int) -> str:
        """Make a new champion without weights; return its name in Label Studio."""
        registry, name = self.services.registry, registry_name(str(project))
        trees = parse_label_config(self.services.projects.get(str(project)).label_config).trees
        manifest = {"kind": "head", "trees": [tree.to_json() for tree in trees], "backbone": "v1", "calibration": {}}
        with registry.stage(name) as folder:
            (folder / "note.txt").write_text("no weights")
            version = registry.publish(name, folder, manifest).version
        registry.promote(name, version)
        return f"taxonomist-{version}"

    def doctor(self, project: int) -> dict[str, Check]:
        self.home.mkdir(exist_ok=True, mode=0o700)
        heartbeat.beat(self.home)
        return {check.name: check for check in run_checks(self.services, str(project))}


NO_MODEL = "taxonomist-look-alikes-0"


def state(owner: httpx.Client, project: int) -> dict[str, Any]:
    """Return the state of a project in Label Studio, without times."""
    about = owner.get(f"/api/projects/{project}").json()
    hooks = owner.get("/api/webhooks/", params={"project": project}).json()
    rows = owner.get("/api/ml", params={"project": project}).json()
    return {
        "about": {key: about[key] for key in ("label_config", "model_version", "show_collab_predictions", "sampling")},
        "webhooks": [{key: value for key, value in hook.items() if key != "updated_at"} for hook in hooks],
        "rows": [{key: row[key] for key in ("id", "url", "title", "state", "auth_method")} for row in rows],
    }


def annotation(picture: CatalogueImage) -> dict[str, Any]:
    value = {"taxonomy": [list(picture.path)]}
    return {"result": [{"from_name": CONTROL, "to_name": "image", "type": "taxonomy", "value": value}]}


def next_task(owner: httpx.Client, project: int) -> dict[str, Any]:
    answer = owner.post("/api/dm/actions", params={"id": "next_task", "project": project}, json={})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body
