"""Trainings of a project wait for each other, and say so; what decides labels for a training says so, too."""

from __future__ import annotations

import pytest
from filelock import Timeout

from taxonomist.backend.labelling import decisions
from taxonomist.backend.retraining import finish_promotion as finishing
from taxonomist.backend.retraining.finish_promotion import training_lock, training_turn
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import TrainingError
from tests.small_world import CONFIG


def test_a_training_that_waits_for_another_one_makes_progress(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "_WAIT_S", 0.01)
    other = training_lock(services, "7")
    other.acquire()
    steps: list[str] = []

    def progress(step: str, share: float) -> None:
        steps.append(step)
        if len(steps) == 3:
            other.release()

    with training_turn(services, "7", progress):
        assert steps == ["waiting for another training of the project"] * 3
        with pytest.raises(Timeout):
            training_lock(services, "7").acquire(timeout=0)
    with training_lock(services, "7").acquire(timeout=0):
        pass  # it is released


@pytest.mark.parametrize("what", ["dirty", "anew"])
def test_labels_that_are_decided_for_a_training_are_progress(
    world: Services, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(decisions, "CHUNK", 20)
    images = sorted(document.id for document in world.catalog.documents("7"))
    if what == "dirty":
        world.journal.withdrawal.decide_again("7", images)
    else:
        decisions.decide_all_dirty(world, "7")
        world.projects.update("7", label_config=CONFIG.replace("Red", "Scarlet"))
    steps: list[str] = []
    monkeypatch.setattr("taxonomist.backend.retraining.training_job._labelled_documents", lambda *_: [])
    with pytest.raises(TrainingError):  # there are too few labels
        train(world, "7", lambda step, _: steps.append(step))
    assert steps.count("labels") == (1 if what == "dirty" else 4)
