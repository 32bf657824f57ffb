"""A disk that is full, or read-only, on a real small file system: what all routes and commands say, and that everything
goes on by itself when there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind, JobState
from tests.backend_process import BackendProcess
from tests.integration.test_bad_days import annotation
from tests.small_world import CONFIG
from tests.soak.small_disk import filled, small_disk
from tests.waiting import eventually

WRITING = (("settings", "--project", "7", "annotators=2"), ("train", "--project", "7", "--force"))
READING = (("embed", "--project", "7"), ("retry",), ("status",))  # they may need no room
ROUTES = {
    "/webhook": annotation(1, 1, "/data/upload/4/1.jpg", ["Warm", "Red"], minute=1),
    "/setup": {"project": "8.1795531934", "schema": CONFIG},
    "/train": {"project": 7},
    "/predict": {"project": "7.1", "label_config": CONFIG, "tasks": [{"id": 1, "data": {"image": "/data/1.jpg"}}]},
}


@pytest.fixture
def backend(tmp_path: Path, trained_home: Path) -> Iterator[BackendProcess]:
    with small_disk(tmp_path / "disk", megabytes=64) as mounted:
        if not mounted:
            pytest.skip("only root can mount a file system, and not in every container")
        shutil.copytree(trained_home, tmp_path / "disk", dirs_exist_ok=True)
        with BackendProcess(tmp_path / "disk", settings={"sync_every": 0}, folder=tmp_path) as backend:
            eventually("a worker", lambda: (heartbeat.age(backend.home) or 99) < 2, timeout=60)
            yield backend


@contextmanager
def full(backend: BackendProcess) -> Iterator[None]:
    with filled(backend.home):
        yield


@contextmanager
def read_only(backend: BackendProcess) -> Iterator[None]:
    """Start the server on a disk that is read-only: no file may be open for writing when it becomes so."""
    backend.stop()
    folder = str(backend.home)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        backend.start()
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


def posted(backend: BackendProcess, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    answer = httpx.post(f"{backend.url}{path}", json=body, timeout=60)
    return answer.status_code, answer.json()


def check_all_say_so(backend: BackendProcess) -> None:
    for path in ("/", "/health", "/livez"):
        assert httpx.get(f"{backend.url}{path}", timeout=30).status_code == 200, path
    for path, body in ROUTES.items():
        status, content = posted(backend, path, body)
        if path == "/predict" and status == 200:
            continue  # it needs no room
        assert status in {503, 507}, (path, status, content)
        assert len(content["error"]) < 600, content
        assert "Traceback" not in content["error"]
    for path in ("/similar?project=7&uri=x", "/metrics", "/versions", "/readyz"):
        answer = httpx.get(f"{backend.url}{path}", timeout=30)
        assert answer.status_code in {200, 401, 403, 503, 507}, (path, answer.text)
    for command in (*WRITING, *READING):
        done = subprocess.run(
            [*backend.program, *command], env=backend.environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        if command in READING and done.returncode == 0:
            continue
        assert done.returncode == 8, (command, done.stdout, done.stderr)
        assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


def goes_on(backend: BackendProcess) -> None:
    """Check that all works again; nothing was restarted by hand."""
    assert backend.process is not None
    assert backend.process.poll() is None
    for path, body in ROUTES.items():
        status, content = posted(backend, path, body)
        assert status in {200, 201}, (path, status, content)
    services = Services(Settings(home=backend.home))
    (job, *_) = services.jobs.latest("7", JobKind.TRAIN)

    def is_done() -> bool:
        found = services.jobs.get(job.id)
        return found is not None and found.state is JobState.DONE

    eventually(f"the training\n{backend.said()}", is_done, timeout=120, every=0.5)
    assert services.jobs.latest("7", JobKind.TRAIN)[0].outcome
    backend.command("settings", "--project", "7", "annotators=1")
    eventually("a heartbeat", lambda: (heartbeat.age(backend.home) or 99) < 3, timeout=90)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [full, read_only], ids=["full", "read-only"])
def test_all_say_so_and_go_on_by_themselves(
    backend: BackendProcess, trouble: Callable[[BackendProcess], AbstractContextManager[None]]
) -> None:
    with trouble(backend):
        check_all_say_so(backend)
    goes_on(backend)
