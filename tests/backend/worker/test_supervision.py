"""Processes that die, stop or hang are replaced, and the server says when no work is done: real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobKind, JobState
from taxonomist.backend.worker.progress_watch import ProgressWatch
from taxonomist.backend.worker.worker import EXIT_STALLED
from taxonomist.storage.journal import TaskSaved
from tests.backend.web.test_app import client_of
from tests.backend_process import BackendProcess
from tests.small_world import CONFIG, publish_backbone
from tests.waiting import eventually

SUPERVISOR = "from taxonomist.backend.worker import supervisor as s; s.SILENT_S = 3; s.supervise({parent})"
WORKER = """
from pathlib import Path
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.worker import progress_watch
from taxonomist.backend.worker.worker import Worker
progress_watch.IDLE_S, progress_watch._SAMPLE_S = 3.0, 1.0
Worker(Services(Settings(home=Path({home!r})))).run()
"""


@pytest.fixture
def hanging(services: Services) -> Iterator[Services]:
    """Project 4, whose Label Studio takes connections and never answers."""
    publish_backbone(services)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        services.projects.update("4", label_config=CONFIG, label_studio_url=url, api_key=SecretStr("t"))
        yield services


def environment(services: Services) -> dict[str, str]:
    return {**os.environ, "TAXONOMIST_HOME": str(services.home)}


def worker_pid(services: Services) -> int:
    try:
        return int(json.loads((services.home / "worker.json").read_text())["pid"])
    except (OSError, ValueError):
        return 0


def sync_of(services: Services) -> tuple[JobState, int] | None:
    job = next(iter(services.jobs.latest("4", JobKind.SYNC, 1)), None)
    return (job.state, job.attempts) if job else None


def test_a_supervisor_whose_server_was_killed_before_it_began_ends(services: Services) -> None:
    """Its worker would keep the lock that the next server's worker needs."""
    other = os.getppid()
    command = [sys.executable, "-P", "-m", "taxonomist.backend.worker.supervisor", str(other)]
    subprocess.run(command, env=environment(services), check=True, timeout=20)
    assert not (services.home / "worker.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True], ids=["", "while its worker is stopped"])
def test_a_killed_supervisor_is_replaced_and_the_server_answers(services: Services, stopped: bool) -> None:
    publish_backbone(services)
    with BackendProcess(services.home) as backend:
        assert backend.process is not None
        worker = eventually("a worker", lambda: worker_pid(services))
        supervisor = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        if stopped:
            os.kill(worker, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        eventually(
            f"another worker\n{backend.said()}", lambda: worker_pid(services) not in {0, worker}, timeout=60, every=0.2
        )
        assert backend.process.poll() is None
        assert "the worker's supervisor has ended; another one starts" in backend.said(1000)
        assert backend.stop() == 0


@pytest.mark.slow
def test_a_stopped_supervisor_keeps_no_server_from_its_work(services: Services) -> None:
    publish_backbone(services)
    with BackendProcess(services.home) as backend:
        worker = eventually("a worker", lambda: worker_pid(services))
        supervisor = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGSTOP)
        assert backend.process is not None
        backend.process.kill()  # neither the supervisor nor its worker
        backend.process.wait(30)
        try:
            with BackendProcess(services.home) as next_one:
                found = eventually("its worker", lambda: worker_pid(services) not in {0, worker}, timeout=60, every=0.2)
                assert found, next_one.said()
                os.kill(int(Path(f"/proc/{worker_pid(services)}/stat").read_text().rpartition(")")[2].split()[1]), 19)
                assert next_one.stop() == 0
                eventually("the worker's end", lambda: not Path(f"/proc/{worker_pid(services)}").exists(), timeout=20)
        finally:
            os.kill(supervisor, signal.SIGCONT)


@pytest.mark.slow
def test_a_stopped_worker_is_replaced_and_its_job_counts_the_attempt(hanging: Services) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR.format(parent=os.getpid())], env=environment(hanging)
    )
    try:
        eventually("the job", lambda: sync_of(hanging) == (JobState.RUNNING, 1))
        worker = eventually("a worker", lambda: worker_pid(hanging))
        os.kill(worker, signal.SIGSTOP)
        eventually("the second attempt", lambda: sync_of(hanging) == (JobState.RUNNING, 2), timeout=60)
        eventually("the next worker's heartbeat", lambda: worker_pid(hanging) not in {0, worker})
    finally:
        supervisor.terminate()
        assert supervisor.wait(30) == 0


@pytest.mark.slow
def test_a_worker_whose_job_hangs_ends_and_the_job_is_given_up_in_the_end(hanging: Services) -> None:
    code = WORKER.format(home=str(hanging.home))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == EXIT_STALLED, done.stderr
        assert "(sync, project 4) makes no progress; this worker ends" in done.stderr
        assert sync_of(hanging) == (JobState.RUNNING, attempt)
    worker = subprocess.Popen([sys.executable, "-c", code])
    try:
        eventually("the end of the job", lambda: hanging.journal.set_aside.items("4"))
    finally:
        worker.kill()
        worker.wait()
    (item,) = hanging.journal.set_aside.items("4")
    assert (item.key, item.reason) == ("sync", f"its process died {MAX_ATTEMPTS} times")


STAND_IN = """#!{python} -IS
import os, sys, time
with open({pids!r}, "a") as file:
    print(os.getpid(), file=file, flush=True)
time.sleep({begins_after})
while True:
    os.write(int(sys.argv[-1]), b".")
    time.sleep(0.1)
"""
SUPERVISOR_OF_STAND_IN = """
import sys
from taxonomist.backend.worker import supervisor as s
sys.executable, s.POLL_S, s.SILENT_S, s.BEGIN_S = {worker!r}, 0.1, {silent_s}, {begin_s}
s.supervise({parent})
"""


@dataclass
class Supervised:
    """A supervisor whose workers only write to its pipe, the first time some seconds after their start."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def workers(self) -> list[int]:
        path = self.folder / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@contextmanager
def supervised(folder: Path, *, begins_after: float, silent_s: float, begin_s: float) -> Iterator[Supervised]:
    worker = folder / "worker"
    worker.write_text(
        STAND_IN.format(python=sys.executable, pids=str(folder / "pids"), begins_after=begins_after), encoding="utf-8"
    )
    worker.chmod(0o700)
    code = SUPERVISOR_OF_STAND_IN.format(worker=str(worker), silent_s=silent_s, begin_s=begin_s, parent=os.getpid())
    process = subprocess.Popen([sys.executable, "-c", code])
    found = Supervised(folder, process)
    try:
        yield found
    finally:
        process.terminate()
        for pid in found.workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert process.wait(30) == 0


def test_a_worker_that_begins_slowly_has_more_time_than_one_that_worked(tmp_path: Path) -> None:
    with supervised(tmp_path, begins_after=2, silent_s=0.5, begin_s=60) as supervisor:
        eventually("a worker", lambda: supervisor.workers)
        time.sleep(3)
        assert len(supervisor.workers) == 1


def test_a_worker_that_does_not_begin_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, begins_after=1e6, silent_s=60, begin_s=0.5) as supervisor:
        eventually("another worker", lambda: len(supervisor.workers) > 1)


def test_a_machine_that_was_paused_costs_no_worker(tmp_path: Path) -> None:
    """As by `docker pause`: the clock goes on, and the supervisor may wake before its worker writes."""
    with supervised(tmp_path, begins_after=0, silent_s=2, begin_s=60) as supervisor:
        (worker,) = eventually("a worker", lambda: supervisor.workers)
        time.sleep(0.5)  # it writes
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.3)  # its supervisor reads what it wrote
        os.kill(supervisor.process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(supervisor.process.pid, signal.SIGCONT)
        time.sleep(0.7)
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.7)
        assert supervisor.workers == [worker]
        os.kill(worker, signal.SIGSTOP)  # one that is silent alone is replaced
        eventually("another worker", lambda: len(supervisor.workers) > 1)


def test_work_that_computes_or_reports_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, used = [0.0], [0.0]
    monkeypatch.setattr("taxonomist.backend.worker.progress_watch.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("taxonomist.backend.worker.progress_watch.time.process_time", lambda: used[0])

    def after(seconds: int, computing: float) -> str | None:
        for _ in range(seconds):
            clock[0], used[0] = clock[0] + 1, used[0] + computing
            stalled = watch.stalled()
        return stalled

    watch = ProgressWatch()
    assert after(5000, 0.01) is None  # nothing is done
    watch.moved("a job")
    assert after(800, 0.01) is None
    assert after(1500, 0.5) is None  # it computes
    assert after(800, 0.01) is None
    assert after(101, 0.01) == "a job"
    watch.moved("a job")
    assert after(3500, 0.5) is None
    assert after(101, 0.5) == "a job"
    watch.moved("a job")
    assert watch.stalled() is None
    watch.ended("a job")
    assert after(5000, 0.5) is None


def receive_at(services: Services, at: float) -> None:
    if services.journal.waits_since() is None:
        services.journal.record([TaskSaved("4", "4.1", "1", "/data/upload/4/a.jpg", datetime.now(UTC))])
    with sqlite3.connect(services.home / "journal.sqlite") as connection:
        connection.execute("UPDATE events SET received_at = ?", (at,))
    connection.close()


def test_the_server_is_not_ready_while_work_waits_for_no_worker(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(services)

    def ready() -> tuple[int, str]:
        answer = client.get("/readyz")
        return answer.status_code, answer.get_json().get("reason", "")

    assert ready() == (200, "")  # there is no work
    receive_at(services, time.time() - 10)
    assert ready() == (200, "")  # a worker may be starting
    receive_at(services, time.time() - 70)
    status, reason = ready()
    assert (status, reason.partition(" s,")[2]) == (503, " and no worker makes progress.")
    heartbeat.beat(services.home)
    assert ready() == (200, "")
    receive_at(services, time.time() - 400)
    assert ready()[0] == 503  # the worker lives and reads nothing
    services.journal.fold()
    assert ready() == (200, "")
    services.jobs.enqueue(JobKind.SYNC, "4")
    (services.home / "worker.json").unlink()
    assert ready() == (200, "")
    began = time.monotonic()
    with monkeypatch.context() as clock:  # our clock was set back: the job was asked for in the future
        clock.setattr("taxonomist.backend.web.readiness.time.time", lambda: 1e9)
        clock.setattr("taxonomist.backend.web.readiness.time.monotonic", lambda: began + 70)
        assert ready()[0] == 503


@pytest.mark.parametrize(("ahead", "worker"), [(3600, "not seen"), (20, "alive")])
def test_the_heartbeat_of_a_worker_whose_clock_was_ahead(
    services: Services, monkeypatch: pytest.MonkeyPatch, ahead: float, worker: str
) -> None:
    """It must not hide for an hour that the worker died; a little ahead may be another clock."""
    with monkeypatch.context() as clock:
        now = time.time()
        clock.setattr("taxonomist.backend.state.heartbeat.time.time", lambda: now + ahead)
        heartbeat.beat(services.home)
    receive_at(services, time.time() - 70)
    client = client_of(services)
    answer = client.get("/readyz")
    assert (answer.get_json()["worker"], answer.status_code) == (worker, 200 if worker == "alive" else 503)
    age = client.get("/metrics").text.split("\ntaxonomist_worker_heartbeat_age_seconds ")[1].split("\n")[0]
    assert age == ("0.0" if worker == "alive" else "NaN")


def test_a_clock_that_was_set_back_delays_no_filling(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with monkeypatch.context() as clock:
        clock.setattr("taxonomist.backend.state.unfilled.time.time", lambda: now + 7200)
        services.unfilled.add("4", ["1", "2"], asked=True)
        services.unfilled.postpone("4", ["1"])
    monkeypatch.setattr("taxonomist.backend.state.unfilled.time.time", lambda: now)
    assert [(task.task_id, task.asked_at) for task in services.unfilled.due("4")] == [("1", now), ("2", now)]
    monkeypatch.setattr("taxonomist.backend.state.unfilled.time.time", lambda: now + 50)
    assert services.unfilled.due("4")[0].asked_at == now  # they become older
    services.unfilled.postpone("4", ["1"])
    assert [task.task_id for task in services.unfilled.due("4")] == ["2"]


def test_a_clock_that_was_set_back_delays_no_training(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with monkeypatch.context() as clock:
        clock.setattr("taxonomist.storage.journal.shared_commits.time.time", lambda: now + 7200)
        services.journal.record([TaskSaved("4", "4.1", "1", "/data/upload/4/a.jpg", datetime.now(UTC))])
    assert services.journal.last_event_at("4") == pytest.approx(time.time(), abs=60)
    first = services.journal.last_event_at("4")
    monkeypatch.setattr("taxonomist.storage.journal.reading.time.time", lambda: now + 3600)
    assert services.journal.last_event_at("4") == first  # quiet counts from then
