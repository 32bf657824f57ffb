"""When Label Studio is read again."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import accept_loss
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.worker.retraining_schedule import TrainingPlanner
from taxonomist.storage.journal.counts import UnknownPaths
from taxonomist.taxonomy.label_config.former_nodes import forget_parsed_configs
from taxonomist.taxonomy.tree import Tree
from tests.small_world import CONFIG


def test_a_clock_that_is_put_right_delays_no_pass(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.settings.sync_every = 60
    services.projects.update("4", label_studio_url="http://127.0.0.1:1", api_key=SecretStr("token"))
    planner, began = TrainingPlanner(services), time.monotonic()
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.time", lambda: 1.9e9)
    planner.plan()
    monkeypatch.undo()
    assert services.jobs.waiting() == []
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.monotonic", lambda: began + 120)
    planner.plan()
    assert [(job.kind, job.project) for job in services.jobs.waiting()] == [(JobKind.SYNC, "4")]


RETRAIN_AFTER = 100.0
WITHOUT_RED = CONFIG.replace('<Choice value="Red"/>', "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the planner, in one element."""
    now = [time.time() + 10 * RETRAIN_AFTER]
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.time", lambda: now[0])
    monkeypatch.setattr("taxonomist.backend.state.jobs.time.time", lambda: now[0])
    return now


def trainings(services: Services) -> int:
    return len(services.jobs.latest("7", JobKind.TRAIN, 100))


def end_training(services: Services, state: JobState) -> None:
    (job,) = (job for job in services.jobs.waiting() if job.kind is JobKind.TRAIN)
    services.jobs.start(job.id)
    services.jobs.finish(job.id, state, "")


@pytest.fixture
def planner(world: Services) -> TrainingPlanner:
    world.settings.retrain_after = RETRAIN_AFTER
    world.projects.update("7", changed_labels=3)
    return TrainingPlanner(world)


def test_a_training_that_failed_is_tried_again_later_and_later(
    world: Services, planner: TrainingPlanner, clock: list[float]
) -> None:
    planner.plan()
    for pause in (1, 2, 4, 8, 16, 32, 36, 36):  # an hour at most
        planner.plan()
        end_training(world, JobState.FAILED)
        count = trainings(world)
        clock[0] += pause * RETRAIN_AFTER - 1
        planner.plan()
        assert trainings(world) == count
        clock[0] += 2
        planner.plan()
        assert trainings(world) == count + 1
    assert world.projects.get("7").changed_labels == 3


def test_a_training_that_waits_or_runs_is_not_asked_for_again(
    world: Services, planner: TrainingPlanner, clock: list[float]
) -> None:
    planner.plan()
    clock[0] += 10 * RETRAIN_AFTER
    planner.plan()
    world.jobs.start_next([JobKind.TRAIN])
    clock[0] += 10 * RETRAIN_AFTER
    planner.plan()
    assert trainings(world) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"label_config": CONFIG.replace("Green", "Teal")},
        {"settings": ProjectChoices(annotators=1)},
    ],
)
def test_a_change_that_may_mend_it_is_tried_at_once(
    world: Services, planner: TrainingPlanner, clock: list[float], change: dict[str, object]
) -> None:
    world.projects.update("7", label_config="<View/>", former_config=CONFIG)
    planner.plan()
    end_training(world, JobState.FAILED)
    planner.plan()
    assert trainings(world) == 1
    world.journal.unknown_paths.keep("7", {})
    world.projects.update("7", gone={}, **change)
    planner.plan()
    assert trainings(world) == 2


def test_new_labels_after_many_failures_wait_a_short_time(
    world: Services, planner: TrainingPlanner, clock: list[float]
) -> None:
    for _ in range(5):
        clock[0] += 100 * RETRAIN_AFTER
        planner.plan()
        end_training(world, JobState.FAILED)
    planner.plan()
    world.projects.count_changed_labels("7", changes=1, waiting=1)
    clock[0] += RETRAIN_AFTER + 1
    planner.plan()
    assert trainings(world) == 6


def test_a_clock_that_is_put_right_delays_no_training(
    world: Services, planner: TrainingPlanner, clock: list[float]
) -> None:
    clock[0] += 1e8
    planner.plan()
    end_training(world, JobState.FAILED)
    clock[0] -= 1e8
    planner.plan()
    assert trainings(world) == 2


def test_a_project_that_is_held_costs_nothing(
    world: Services, planner: TrainingPlanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings.retrain_after = 0
    world.projects.update("7", label_config=WITHOUT_RED)
    decide_anew(world, "7")
    calls = {"find": 0, "labels": 0}
    find, labels = Tree._find_nearest, UnknownPaths.labels

    def count_find(tree: Tree, path: tuple[str, ...]) -> tuple[str, ...] | None:
        calls["find"] += 1
        return find(tree, path)

    def count_labels(counts: UnknownPaths, project: str) -> object:
        calls["labels"] += 1
        return labels(counts, project)

    monkeypatch.setattr(Tree, "_find_nearest", count_find)
    monkeypatch.setattr(UnknownPaths, "labels", count_labels)
    services = Services(world.settings)
    planner = TrainingPlanner(services)
    forget_parsed_configs()
    for _ in range(20):
        planner.plan()
    assert trainings(world) == 0
    assert calls == {"find": 1, "labels": 1}
    accept_loss(world, "7")
    planner.plan()
    assert trainings(world) == 1
