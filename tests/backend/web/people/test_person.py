"""Who a person is, by real requests to a Label Studio that knows some sessions and writes down what it is sent."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.people import People, Person, person
from taxonomist.taxonomy.errors import LabelStudioError

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


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    with LabelStudio() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def services(folder: Path, label_studio: LabelStudio, **settings: Any) -> Services:
    chosen = {"browser_url": f"{OUTER}/taxonomist", **settings}
    made = Services(Settings(home=folder, **chosen))
    for project in ("4", "5"):
        made.projects.update(
            project,
            label_studio_url=label_studio.url,
            label_studio_addresses=(OUTER,),
            api_key=SecretStr("the-token"),
        )
    made.projects.update("furniture", label_config="<View/>")  # imported from a file
    return made


def cookie(session: str) -> str:
    return f"csrftoken=abc; sessionid={session}; other=1"


def test_who_they_are_and_what_they_may_see(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio))
    assert people.person(cookie(ANNA)) == Person(2, "anna@example.com", {"4": "annotator"})
    assert people.person(cookie(LEA)) == Person(1, "Lea@Example.com", {"4": "lead", "5": "lead"})
    assert people.person(cookie(ANNA), ["5"]) == Person(2, "anna@example.com", {})
    for nobody in (None, "", "csrftoken=abc", cookie("unknown"), cookie(""), f"{cookie(ANNA)}; sessionid=b"):
        assert people.person(nobody) is None


def test_named_leads_replace_the_creator(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio, leads="ANNA@example.com, x@example.com"))
    assert people.person(cookie(ANNA)) == Person(2, "anna@example.com", {"4": "lead"})
    assert people.person(cookie(LEA)) == Person(1, "Lea@Example.com", {"4": "annotator", "5": "annotator"})


def test_the_cookie_goes_to_two_questions_and_nothing_else_does(
    tmp_path: Path, label_studio: LabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = services(tmp_path, label_studio)
    people = People(made)
    people.person(cookie(ANNA))
    people.person(cookie(LEA))
    paths = ["/api/current-user/whoami", "/api/projects/4", "/api/projects/5"]
    assert [path for path, _ in label_studio.asked] == [*paths, *paths]
    for number, (_, headers) in enumerate(label_studio.asked):
        assert headers["Cookie"] == f"sessionid={ANNA if number < 3 else LEA}"  # what it set is not sent
        assert "Authorization" not in headers
    assert not [session for session in (ANNA, LEA) if session in caplog.text]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and LEA.encode() in file.read_bytes()]
    assert ANNA not in repr(vars(people))


@pytest.mark.parametrize(
    "url", ["https://labels.example", "https://other.example/taxonomist", "http://labels.example/taxonomist"]
)
def test_without_one_address_nothing_is_asked(tmp_path: Path, label_studio: LabelStudio, url: str) -> None:
    assert People(services(tmp_path, label_studio, browser_url=url)).person(cookie(LEA)) is None
    assert label_studio.asked == []


def test_answers_are_kept_for_a_minute(
    tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, now = People(services(tmp_path, label_studio)), 1000.0
    monkeypatch.setattr(person, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(3):
        people.person(cookie(ANNA), ["4"])
        assert people.person(cookie("unknown")) is None
    assert len(label_studio.asked) == 3
    now += person.KEPT_S + 1
    monkeypatch.setattr(label_studio, "people", {})  # logged out
    assert people.person(cookie(ANNA), ["4"]) is None


def test_few_answers_are_kept(tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "MOST_KEPT", 3)
    people = People(services(tmp_path, label_studio))
    for number in range(6):
        people.person(cookie(f"unknown{number}"), ["4"])
    assert len(people._kept) == 3


def test_a_broken_label_studio_is_an_error_and_not_an_answer(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio))
    label_studio.broken = True
    with pytest.raises(LabelStudioError, match="500"):
        people.person(cookie(ANNA))
    label_studio.broken = False
    assert people.person(cookie(ANNA)) is not None
