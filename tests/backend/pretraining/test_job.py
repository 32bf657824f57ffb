"""A pre-training job on a disk without room: what ended is not done again, and what is published not twice."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytest

from taxonomist.backend.pretraining import run as run_module
from taxonomist.backend.pretraining.job import run_job
from taxonomist.backend.pretraining.state import Run, StopSignal, read_run, write_run
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import StorageError
from taxonomist.training.pretraining.pretrain import PretrainingResult
from taxonomist.training.pretraining.recipe import PRESETS
from tests.present import present
from tests.small_world import SIZE

RUN = Run(preset="smoke", recipe=asdict(PRESETS["smoke"]), size=SIZE)


@pytest.mark.parametrize(("step", "state"), [("done", JobState.DONE), ("failed", JobState.FAILED)])
def test_a_run_that_ended_without_room_for_the_job_table_is_not_done_again(
    services: Services, step: Literal["done", "failed"], state: JobState
) -> None:
    """A pre-training may take days, and the next one begins anew."""
    job = services.jobs.enqueue(JobKind.PRETRAIN)
    services.jobs.start(job.id)
    write_run(services.home, RUN.model_copy(update={"step": step, "outcome": "so it ended", "job": job.id}))
    assert run_job(services, job.id, StopSignal())
    found = present(services.jobs.get(job.id))
    assert (found.state, found.outcome) == (state, "so it ended")
    assert present(read_run(services.home)).step == step


def test_a_result_that_was_published_without_room_for_the_run_is_not_published_again(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = PretrainingResult(tmp_path, tmp_path / "best", {"finished_at": "2026-01-01", "data": {"count": 80}})

    def publish(registry: Any, result: PretrainingResult, size: int, images: Any) -> ModelVersion:
        with services.registry.stage(BACKBONE) as folder:
            manifest = {"kind": "backbone", "size": size, "dimension": 8, "pretraining": result.summary}
            return services.registry.publish(BACKBONE, folder, manifest)

    def full(*_: object) -> Run:
        raise StorageError("No room.")

    monkeypatch.setattr(run_module, "publish_pretrained", publish)
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_run", full)
        with pytest.raises(StorageError):
            run_module._publish(services, RUN, result)
    assert run_module._publish(services, RUN, result).version == "v1"
    other = PretrainingResult(tmp_path, tmp_path / "best", {"finished_at": "2026-01-02", "data": {"count": 80}})
    assert run_module._publish(services, RUN, other).version == "v2"
