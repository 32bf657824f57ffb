"""The child process of a pre-training, with real processes: its priority, its end, and that its job survives it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from taxonomist.backend.pretraining import process as watched
from taxonomist.backend.pretraining.__main__ import NICENESS
from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.pretraining.state import EXIT_NO_ROOM, Run, exclusive_pretraining, write_run
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import StorageError
from taxonomist.training.pretraining.recipe import PRESETS
from tests.present import present
from tests.small_world import SIZE, publish_backbone
from tests.soak.small_disk import filled, small_disk
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
CORES = sorted(os.sched_getaffinity(0))
# On a busy machine a humble process gets a tenth of a core.
LOCK_TIMEOUT_S = 280
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def job(poor: Services, better: ModelVersion) -> Job:
    """A waiting job whose backbone is published already, so that the remaining step takes seconds."""
    left = Run(preset="smoke", recipe=asdict(PRESETS["smoke"]), size=SIZE, step="adopt", version=better.version)
    write_run(poor.settings.home, left)
    return poor.jobs.enqueue(JobKind.PRETRAIN, reason="test")


@pytest.fixture
def niceness() -> int | None:
    """Return the priority of the child: the usual one, so that tests about something else do not wait for it."""
    return 0


@pytest.fixture
def process(poor: Services, niceness: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretrainingProcess]:
    monkeypatch.chdir(ROOT)
    running = PretrainingProcess(poor, niceness=niceness)
    yield running
    if running._child is not None:
        running._child.kill()
        running._child.wait()


def now(services: Services, job: Job) -> Job:
    found = services.jobs.get(job.id)
    assert found is not None
    return found


def wait_for_step(services: Services, process: PretrainingProcess, job: Job, step: str) -> int:
    """Poll until the job is at that step; return the id of the child process."""
    process.poll()
    eventually(step, lambda: now(services, job).step.startswith(step), timeout=LOCK_TIMEOUT_S, every=0.02)
    assert process._child is not None
    return process._child.pid


def wait_for_end(services: Services, process: PretrainingProcess, job: Job) -> Job:
    def ended() -> bool:
        process.poll()
        return now(services, job).state in {JobState.DONE, JobState.FAILED}

    eventually("the end", ended, timeout=LOCK_TIMEOUT_S)
    return now(services, job)


@pytest.mark.parametrize("niceness", [None])
def test_its_threads_have_low_priority_and_it_ends_well(poor: Services, process: PretrainingProcess, job: Job) -> None:
    pid = wait_for_step(poor, process, job, "embedding")
    humble = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    threads: set[str] = set()
    while now(poor, job).state is JobState.RUNNING:  # of onnxruntime at first, then of torch
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                assert os.getpriority(os.PRIO_PROCESS, int(task.name)) == humble
                if len(CORES) > 1:
                    assert CORES[0] not in os.sched_getaffinity(int(task.name))
                threads.add(task.name)
        time.sleep(0.02)
    assert len(threads) > 1
    ended = wait_for_end(poor, process, job)
    assert (ended.state, ended.attempts) == (JobState.DONE, 1)
    assert ended.outcome.startswith("Backbone v2 is served now")
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v2"}


def test_a_stop_is_not_an_attempt_and_it_resumes(poor: Services, process: PretrainingProcess, job: Job) -> None:
    wait_for_step(poor, process, job, "embedding")
    process.stop()
    waiting = now(poor, job)
    assert (waiting.state, waiting.attempts) == (JobState.WAITING, 0)
    assert poor.registry.champion("backbone") == "v1"
    ended = wait_for_end(poor, process, job)
    assert (ended.state, ended.attempts) == (JobState.DONE, 1)


class Clock:
    """The clock by which children are watched: it stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands = Clock()
    monkeypatch.setattr(watched, "time", stands)
    return stands


def child_of(process: PretrainingProcess, monkeypatch: pytest.MonkeyPatch, program: str) -> subprocess.Popen[bytes]:
    """Return a child of the process that runs this program in place of a pre-training."""
    monkeypatch.setattr(process, "_command", lambda _job: [sys.executable, "-c", program])
    process.poll()
    assert process._child is not None
    return process._child


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_child_that_hangs_is_ended_and_the_attempt_counts(
    poor: Services,
    process: PretrainingProcess,
    job: Job,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    is_stopped: bool,
) -> None:
    hangs = child_of(process, monkeypatch, "import signal; signal.pause()")
    if is_stopped:
        os.kill(hangs.pid, signal.SIGSTOP)
    clock.now += watched.LOOK_S
    process.poll()  # it has made its first step
    clock.now += watched.IDLE_S - 1
    process.poll()
    assert hangs.poll() is None
    clock.now += watched.LOOK_S
    process.poll()
    assert hangs.wait(60) == -signal.SIGKILL
    process.poll()
    assert process._child is not hangs
    assert (now(poor, job).state, now(poor, job).attempts) == (JobState.RUNNING, 2)


@pytest.mark.usefixtures("job")
def test_a_child_that_computes_in_a_process_of_its_own_is_left_alone(
    process: PretrainingProcess, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes_for_a_while = "import time; end = time.process_time() + 5\nwhile time.process_time() < end: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {computes_for_a_while!r}])"
    computes = child_of(process, monkeypatch, program)
    clock.now += watched.LOOK_S
    process.poll()
    used = watched._processor_s(computes.pid)
    eventually("it computes", lambda: watched._processor_s(computes.pid) > used + 1.5, timeout=LOCK_TIMEOUT_S)
    assert computes.poll() is None
    clock.now += watched.IDLE_S + 1
    process.poll()
    assert computes.wait(LOCK_TIMEOUT_S) == 0


def test_a_killed_child_is_started_again(poor: Services, process: PretrainingProcess, job: Job) -> None:
    os.kill(wait_for_step(poor, process, job, "embedding"), signal.SIGKILL)
    ended = wait_for_end(poor, process, job)
    assert (ended.state, ended.attempts) == (JobState.DONE, 2)


def test_it_waits_for_a_pre_training_by_a_command(poor: Services, process: PretrainingProcess, job: Job) -> None:
    with exclusive_pretraining(poor.settings.home):
        process.poll()
        assert process._child is None
        assert now(poor, job).state is JobState.WAITING


def test_without_room_it_waits_and_goes_on_by_itself(
    poor_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with small_disk(tmp_path / "disk", megabytes=64) as mounted:
        if not mounted:
            pytest.skip("only root can mount a file system, and not in every container")
        home = tmp_path / "disk" / "home"
        shutil.copytree(poor_home, home)
        services = Services(Settings(home=home, head_epochs=10, views=1))
        version = publish_backbone(services, promote=False)
        write_run(home, Run(preset="smoke", recipe=asdict(PRESETS["smoke"]), size=SIZE, step="adopt", version="v2"))
        job = services.jobs.enqueue(JobKind.PRETRAIN, reason="test")
        process = PretrainingProcess(services, niceness=0)
        with filled(tmp_path / "disk", left_kilobytes=80):  # room to begin, and not for all embeddings
            process.poll()
            child = present(process._child)
            assert child.wait(LOCK_TIMEOUT_S) == EXIT_NO_ROOM
            for _ in range(10):
                with contextlib.suppress(StorageError):  # the worker's next pulse tries again
                    process.poll()
            assert process._child is None  # it is not started again and again
            assert services.registry.champion("backbone") == "v1"
        ended = wait_for_end(services, process, job)
        present(process._child).wait()
        assert (ended.state, ended.attempts) == (JobState.DONE, 1)
        assert ended.outcome.startswith("Backbone v2 is served now")
        found = services.embeddings(version.version).get([document.id for document in services.catalog.documents("7")])
        assert found[0].all()
        services.close()


WORKER = """
import sys, time
from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
process = PretrainingProcess(Services(Settings(home=sys.argv[1], head_epochs=10, views=1)), niceness=0)
while True:
    process.poll()
    time.sleep(0.1)
"""


def test_it_ends_with_its_worker(poor: Services, process: PretrainingProcess, job: Job) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(poor.settings.home)], cwd=ROOT)
    try:
        eventually(
            "the child works", lambda: now(poor, job).step.startswith("embedding"), timeout=LOCK_TIMEOUT_S, every=0.02
        )
    finally:
        worker.kill()
        worker.wait()
    eventually("its child has ended", lambda: now(poor, job).state is JobState.WAITING)
    assert now(poor, job).attempts == 0
    assert poor.registry.champion("backbone") == "v1"
    ended = wait_for_end(poor, process, job)
    assert (ended.state, ended.attempts) == (JobState.DONE, 1)
