"""A Label Studio that knows some sessions, and writes down what it is sent."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings

ANNA, LEA = ".eJxV-anna:1tA_b:x-Y_z", "lea-session"
OUTER = "https://labels.example"


class LabelStudio(ThreadingHTTPServer):
    """Two people and projects 4 and 5; Lea made 4, and Anna may see it alone. It writes down path and headers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.people = {ANNA: (2, "anna@example.com"), LEA: (1, "Lea@Example.com")}
        self.projects = {4: {ANNA, LEA}, 5: {LEA}}
        self.broken = False
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: LabelStudio

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        session = str(self.headers["Cookie"]).removeprefix("sessionid=")
        if self.server.broken:
            self._send(500, {})
        elif session not in self.server.people:
            self._send(401, {"detail": "no"})
        elif self.path == "/api/current-user/whoami":
            id, email = self.server.people[session]
            self._send(200, {"id": id, "email": email, "username": "x"})
        elif session in self.server.projects.get(number := int(self.path.rpartition("/")[2]), set()):
            self._send(200, {"id": number, "title": "t", "created_by": {"id": 1, "email": "lea@example.com"}})
        else:
            self._send(404, {"detail": "not found"})

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Set-Cookie", "sessionid=stolen; Path=/")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def services(folder: Path, label_studio: LabelStudio, **settings: Any) -> Services:
    chosen = {"browser_url": f"{OUTER}/taxonomist", **settings}
    made = Services(Settings(home=folder, **chosen))
    for project in ("4", "5"):
        made.projects.update(
            project,
            label_studio_url=label_studio.url,
            label_studio_outer=OUTER,
            api_key=SecretStr("the-token"),
        )
    made.projects.update("furniture", label_config="<View/>")  # imported from a file
    return made


def cookie(session: str) -> str:
    return f"csrftoken=abc; sessionid={session}; other=1"
