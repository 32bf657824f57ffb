"""A folder with packages called like ours, which raise when they are imported, does not disturb us."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from taxonomist.backend.pretraining.process import PretrainingProcess
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from tests.backend_process import BackendProcess
from tests.waiting import eventually

OURS = ("backend", "training", "inference", "storage", "taxonomy")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    for name in OURS:
        (tmp_path / "foreign" / name).mkdir(parents=True)
        (tmp_path / "foreign" / name / "__init__.py").write_text(f"raise SystemExit('foreign {name} was imported')\n")
    return tmp_path / "foreign"


def test_the_foreign_packages_are_in_the_way(foreign: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import backend"], cwd=foreign, capture_output=True, text=True)
    assert "foreign backend was imported" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "import taxonomist, taxonomist.backend.cli, taxonomist.training.study.run"),
        ("-m", "taxonomist", "--help"),
        ("-m", "taxonomist.backend.pretraining", "--help"),
        ("-m", "taxonomist.training.pretraining.distributed", "--help"),
    ],
)
def test_imports_and_child_processes(foreign: Path, command: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=foreign, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_serve_with_its_worker(foreign: Path, trained: Services) -> None:
    with BackendProcess(trained.settings.home, folder=foreign):
        job = trained.jobs.enqueue(JobKind.TRAIN, "7", "a test")
        eventually(
            "the worker trains",
            lambda: any(latest.id == job.id and latest.state is JobState.DONE for latest in trained.jobs.latest("7")),
        )


def test_child_processes_do_not_look_into_the_folder(services: Services) -> None:
    """The working folder of a process is first on its path unless -P is given."""
    assert PretrainingProcess(services)._command("1")[1:3] == ["-P", "-m"]
