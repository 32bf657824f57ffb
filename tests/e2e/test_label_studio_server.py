"""The demo's Label Studio is a real one, and everything the demo does with it works."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser

from taxonomist.backend.demo import server
from taxonomist.backend.demo.accounts import Account, sign_up
from taxonomist.backend.demo.annotators import Outcome, annotate, plan
from taxonomist.backend.demo.project import CONTROL, TO_NAME, CatalogueImage
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.taxonomy.errors import LabelStudioError
from tests.e2e.in_process import MakeProject
from tests.e2e.screens import expect_paths, logged_in, open_task, shoot
from tests.environment import LABEL_STUDIO_CACHE, label_studio_program
from tests.waiting import eventually


def test_version_and_people(label_studio: LabelStudioServer, annotators: list[Account], owner: httpx.Client) -> None:
    assert label_studio.version.startswith("1.23.")
    assert label_studio.running
    members = owner.get("/api/users").json()
    assert {person.email for person in annotators} <= {member["email"] for member in members}
    for person in annotators:
        with person.client(label_studio.url) as client:
            assert client.get("/api/current-user/whoami").json()["id"] == person.user_id


def test_signing_up_again_logs_in(label_studio: LabelStudioServer, annotators: list[Account]) -> None:
    first = annotators[0]
    assert sign_up(label_studio.url, label_studio.owner, first.email, first.password) == first
    with pytest.raises(LabelStudioError, match="neither sign up nor log in"):
        sign_up(label_studio.url, label_studio.owner, first.email, "not-the-password")


def test_project_annotations_and_screen(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    browser: Browser,
) -> None:
    project, tasks = make_project("Server", catalogue[::40])
    assert len(tasks) == len(catalogue[::40])
    assert {task.image for task in tasks} == set(catalogue[::40])
    assert owner.get(tasks[0].uri).content == tasks[0].image.file.read_bytes()

    # One task of each outcome.
    taxonomy = [picture.path for picture in catalogue]
    outcomes = dict(zip(tasks, Outcome, strict=False))
    for task, outcome in outcomes.items():
        annotate(
            label_studio.url, annotators, plan({task.id: task.image.path}, taxonomy, shares={outcome: 1.0}, seed=7)
        )
    for task, outcome in outcomes.items():
        answer = owner.get(f"/api/tasks/{task.id}").json()
        seen = answer["annotations"]
        assert (answer["total_annotations"], answer["cancelled_annotations"]) == (
            (2, 1) if outcome is Outcome.ONE_SKIPS else (3, 0)
        )
        assert {annotation["completed_by"]["id"] for annotation in seen} == {person.user_id for person in annotators}
        assert sum(annotation["was_cancelled"] for annotation in seen) == (outcome is Outcome.ONE_SKIPS)
        paths = {str(r["value"]["taxonomy"]) for annotation in seen for r in annotation["result"]}
        expected = {Outcome.AGREE: 1, Outcome.TWO_TO_ONE: 2, Outcome.ALL_DIFFER: 3, Outcome.ONE_SKIPS: 1}
        assert len(paths) == expected.get(outcome, len(paths))
        assert all(r["from_name"] == CONTROL for annotation in seen for r in annotation["result"])

    path = tasks[-1].image.path
    region = {"from_name": CONTROL, "to_name": TO_NAME, "type": "taxonomy", "value": {"taxonomy": [list(path)]}}
    prediction = {"task": tasks[-1].id, "result": [region], "score": 0.9, "model_version": "v0"}
    assert owner.post("/api/predictions/", json=prediction).status_code == httpx.codes.CREATED
    assert owner.patch(f"/api/projects/{project}/", json={"model_version": "v0"}).is_success

    with logged_in(browser, label_studio.url, annotators[0]) as page:
        open_task(page, label_studio.url, project, tasks[-2].id)
        expect_paths(page, [])
        open_task(page, label_studio.url, project, tasks[-1].id)
        expect_paths(page, [path])
        with Image.open(shoot(page, "labelling-screen-plain")) as picture:
            assert picture.size == (1400, 900)
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 100  # not a blank page


def test_it_moves_to_another_port_and_keeps_its_data(tmp_path: Path) -> None:
    program = label_studio_program()

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"release": "9.9.9"}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((server.HOST, 0), Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        try:
            with server.start(program, tmp_path, port=stranger.server_port, cache=LABEL_STUDIO_CACHE) as first:
                assert first.url != f"http://{server.HOST}:{stranger.server_port}"
                assert first.version.startswith("1.23.")
                with pytest.raises(LabelStudioError, match="running on"):
                    server.start(program, tmp_path)
                sign_up(first.url, first.owner, "dora@example.com", "Annotator-2468")
        finally:
            stranger.shutdown()
            thread.join()
    assert not first.running
    with socket.socket() as probe:
        assert probe.connect_ex((server.HOST, int(first.url.rpartition(":")[2]))) != 0

    with server.start(program, tmp_path, cache=LABEL_STUDIO_CACHE) as second:
        assert second.owner == first.owner
        with second.owner.client(second.url) as client:
            assert "dora@example.com" in {member["email"] for member in client.get("/api/users").json()}


def test_what_it_says_when_it_cannot_start(tmp_path: Path) -> None:
    broken = tmp_path / "label-studio"
    broken.write_text("#!/bin/sh\necho no such table: aardvark\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LabelStudioError, match=r"(?s)exit status 3.*no such table: aardvark"):
        server.start(broken, tmp_path / "data")
    with pytest.raises(LabelStudioError, match="does not exist"):
        server.start(tmp_path / "nothing", tmp_path / "data")


def test_the_whole_group_ends(tmp_path: Path) -> None:
    program = tmp_path / "label-studio"
    program.write_text("#!/bin/sh\ntrap '' TERM\nsleep 600 & echo $! > \"$LABEL_STUDIO_BASE_DATA_DIR/child\"\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(LabelStudioError, match="exit status 3"):
        server.start(program, tmp_path / "data")
    assert not runs((tmp_path / "data" / "child").read_text().strip())


def test_it_ends_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "label-studio"
    program.write_text('#!/bin/sh\nsleep 600 & echo $! > "$LABEL_STUDIO_BASE_DATA_DIR/child"\nwait\n')
    program.chmod(0o755)
    script = "import sys, pathlib, taxonomist.backend.demo.server as s; s.start(*map(pathlib.Path, sys.argv[1:]))"
    starter = subprocess.Popen([sys.executable, "-c", script, str(program), str(tmp_path / "data")])
    written = tmp_path / "data" / "child"
    child = eventually("the program runs", lambda: written.read_text().strip() if written.exists() else "")
    assert runs(child)
    starter.kill()
    starter.wait()
    eventually("the program ends", lambda: not runs(child), timeout=10)


def runs(process: str) -> bool:
    """Return whether a process lives; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True, check=False).stdout
    return state.strip() not in {"", "Z"}
