"""A pre-training whose processes somebody else has started, such as Azure ML, which tells each its rank.

The first process does the whole job, the others only train along. They share no disk, but must have the same pictures;
a run that goes on from a checkpoint needs the home folder in common, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import BaseModel

from taxonomist.backend.pretraining.dataset import Chosen
from taxonomist.backend.pretraining.run import Progress, run, train
from taxonomist.backend.pretraining.start_weights import is_here
from taxonomist.backend.pretraining.state import Asked, Run, ShouldStop, only_one
from taxonomist.backend.services import Services
from taxonomist.training.devices import device_kind
from taxonomist.training.pretraining.distributed.process_group import (
    ProcessGroup,
    process_group,
    started_by_torchrun,
)


class Plan(BaseModel, frozen=True):
    """What the first process tells the others."""

    run: Run
    chosen: Chosen


def run_together(services: Services, asked: Asked, progress: Progress, should_stop: ShouldStop) -> str:
    """`run`, alone or with the processes that were started with this one; returns one line.

    Raises what `run` raises.
    """
    if not started_by_torchrun():
        with only_one(services.settings.home):
            return run(services, asked, progress, should_stop)
    with process_group(device_kind(asked.device or services.settings.pretrain_device)) as group:
        if not group.is_first:
            return _train_along(services, asked, group, should_stop)
        with _teller(group) as tell, only_one(services.settings.home):
            return run(
                services, asked, progress, should_stop, lambda current, chosen: tell(Plan(run=current, chosen=chosen))
            )


class _Teller:
    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self.told = False

    def __call__(self, plan: Plan | None) -> None:
        self.told = True
        self._group.broadcast_bytes(plan.model_dump_json().encode() if plan else b"")


@contextmanager
def _teller(group: ProcessGroup) -> Iterator[_Teller]:
    """The others wait to be told; when there is nothing to train, or when it goes wrong before, they are told that."""
    tell = _Teller(group)
    try:
        yield tell
    finally:
        if not tell.told:
            with suppress(RuntimeError):  # they are gone; what happened here matters more
                tell(None)


def _train_along(services: Services, asked: Asked, group: ProcessGroup, should_stop: ShouldStop) -> str:
    message = group.broadcast_bytes()
    if not message:
        return "The first process has nothing to train on."
    plan = Plan.model_validate_json(message)
    recipe = dict(plan.run.recipe)
    if not is_here(recipe["weights"]):  # the first process sends its own to all when the training begins
        recipe["weights"] = "random"
    current = plan.run.model_copy(update={"pictures": asked.pictures, "recipe": recipe})
    train(services, current, plan.chosen, asked, lambda step, share: None, should_stop)
    return f"Process {group.rank + 1} of {group.world_size} has trained along."
