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
from taxonomist.training.pretraining.distributed.process_group import Team, device_kind, started_by_torchrun, team


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
    with team(device_kind(asked.device or services.settings.pretrain_device)) as members:
        if not members.is_first:
            return _train_along(services, asked, members, should_stop)
        with _teller(members) as tell, only_one(services.settings.home):
            return run(
                services, asked, progress, should_stop, lambda current, chosen: tell(Plan(run=current, chosen=chosen))
            )


class _Teller:
    def __init__(self, members: Team) -> None:
        self._members = members
        self.told = False

    def __call__(self, plan: Plan | None) -> None:
        self.told = True
        self._members.share(plan.model_dump_json().encode() if plan else b"")


@contextmanager
def _teller(members: Team) -> Iterator[_Teller]:
    """The others wait to be told; when there is nothing to train, or when it goes wrong before, they are told that."""
    tell = _Teller(members)
    try:
        yield tell
    finally:
        if not tell.told:
            with suppress(RuntimeError):  # they are gone; what happened here matters more
                tell(None)


def _train_along(services: Services, asked: Asked, members: Team, should_stop: ShouldStop) -> str:
    message = members.share()
    if not message:
        return "The first process has nothing to train on."
    plan = Plan.model_validate_json(message)
    recipe = dict(plan.run.recipe)
    if not is_here(recipe["weights"]):  # the first process sends its own to all when the training begins
        recipe["weights"] = "random"
    current = plan.run.model_copy(update={"pictures": asked.pictures, "recipe": recipe})
    train(services, current, plan.chosen, asked, lambda step, share: None, should_stop)
    return f"Process {members.number + 1} of {members.size} has trained along."
