"""When a pre-training is asked for."""

from __future__ import annotations

from datetime import datetime

import pytest

from taxonomist.backend.pretraining.schedule import PretrainingPlanner, count_new_images
from taxonomist.backend.pretraining.state import Run, write_run
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState


def scheduled(services: Services, schedule: str | None = "0 1 * * 6", min_new: int = 10) -> Services:
    return Services(services.settings.model_copy(update={"pretrain_schedule": schedule, "pretrain_min_new": min_new}))


def reasons(services: Services) -> list[str]:
    return [job.reason for job in services.jobs.waiting() if job.kind is JobKind.PRETRAIN]


def finish(services: Services) -> None:
    (job,) = (job for job in services.jobs.waiting() if job.kind is JobKind.PRETRAIN)
    services.jobs.finish(job.id, JobState.DONE, "")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, 30)


def test_without_a_schedule_nothing_is_enqueued(world: Services) -> None:
    planner = PretrainingPlanner(world)
    planner.plan(at(21, 0))
    planner.plan(at(30, 0))
    assert reasons(world) == []


def test_when_it_is_due_and_not_before(world: Services) -> None:
    planner = PretrainingPlanner(scheduled(world))
    planner.plan(at(20, 12))  # Friday
    planner.plan(at(21, 0, 59))
    assert reasons(world) == []
    planner.plan(at(21, 1))
    assert reasons(world) == ["due at 2026-11-21 01:00, 80 images are new"]
    finish(world)
    planner.plan(at(21, 1, 1))
    assert reasons(world) == []


def test_due_times_without_a_worker_are_made_up_for_once(world: Services) -> None:
    PretrainingPlanner(scheduled(world, "0 1 * * *")).plan(at(20, 12))
    later = PretrainingPlanner(scheduled(world, "0 1 * * *"))
    later.plan(at(24, 9))
    assert reasons(world) == ["due at 2026-11-24 01:00, 80 images are new"]
    finish(world)
    PretrainingPlanner(scheduled(world, "0 1 * * *")).plan(at(24, 10))
    assert reasons(world) == []


def test_a_new_schedule_starts_now(world: Services) -> None:
    PretrainingPlanner(scheduled(world, "0 1 * * *")).plan(at(20, 12))
    PretrainingPlanner(scheduled(world, "0 3 * * *")).plan(at(24, 9))
    assert reasons(world) == []


@pytest.mark.parametrize(("seen", "expected"), [(0, 1), (70, 1), (71, 0), (80, 0), (500, 0)])
def test_enough_images_must_be_new(world: Services, seen: int, expected: int) -> None:
    write_run(world.settings.home, Run(preset="smoke", recipe={}, size=32, step="done", seen=seen))
    assert count_new_images(world) == max(0, 80 - seen)
    planner = PretrainingPlanner(scheduled(world))
    planner.plan(at(20, 12))
    planner.plan(at(21, 2))
    assert len(reasons(world)) == expected


def test_not_while_one_runs(world: Services) -> None:
    world.jobs.start(world.jobs.enqueue(JobKind.PRETRAIN).id)
    planner = PretrainingPlanner(scheduled(world))
    planner.plan(at(20, 12))
    planner.plan(at(21, 2))
    assert reasons(world) == []


def test_a_time_in_the_future_is_not_believed(world: Services, caplog: pytest.LogCaptureFixture) -> None:
    """The schedule was first seen while the clock was in 2031."""
    PretrainingPlanner(scheduled(world)).plan(datetime(2031, 3, 1, 12))
    later = PretrainingPlanner(scheduled(world))
    later.plan(at(20, 12))
    assert "in the future" in caplog.text
    assert reasons(world) == []
    later.plan(at(21, 1))
    assert reasons(world) == ["due at 2026-11-21 01:00, 80 images are new"]


def test_a_clock_that_is_put_right_while_the_worker_runs(world: Services) -> None:
    planner = PretrainingPlanner(scheduled(world, "0 1 * * *"))
    planner.plan(datetime(2031, 3, 1, 12))
    planner.plan(at(20, 12))
    planner.plan(at(21, 2))
    assert len(reasons(world)) == 1


def test_the_end_of_summer_time_handles_nothing_twice(world: Services) -> None:
    planner = PretrainingPlanner(scheduled(world, "30 2 * * *"))
    planner.plan(at(20, 12))
    planner.plan(at(21, 2, 31))
    finish(world)
    planner.plan(at(21, 2, 1))  # an hour later, after local time went back by one
    planner.plan(at(21, 2, 31))
    assert reasons(world) == []
