"""A pre-training in several processes, which torchrun or Azure ML starts with their ranks in the environment.

The first process does the whole job, the others take part in the training only. They need no common disk, but the same
prepared images. To resume from a checkpoint they need the same home folder, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import BaseModel

from taxonomist.backend.pretraining.dataset import RunData
from taxonomist.backend.pretraining.run import run, train
from taxonomist.backend.pretraining.start_weights import is_readable
from taxonomist.backend.pretraining.state import PretrainRequest, Run, ShouldStop, exclusive_pretraining
from taxonomist.backend.services import Services
from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.training.devices import device_kind
from taxonomist.training.pretraining.distributed.process_group import (
    ProcessGroup,
    process_group,
    started_by_torchrun,
)


class TrainingPlan(BaseModel, frozen=True):
    """What the first process sends to the others before the training."""

    run: Run
    data: RunData


def run_distributed(
    services: Services, request: PretrainRequest, progress: StepProgress, should_stop: ShouldStop
) -> str:
    """Run the pre-training, alone or with the processes that were started with this one; return one line.

    Raises the errors of `run`.
    """
    if not started_by_torchrun():
        with exclusive_pretraining(services.settings.home):
            return run(services, request, progress, should_stop)
    with process_group(device_kind(request.device or services.settings.pretrain_device)) as group:
        if not group.is_first:
            return _join_training(services, request, group, should_stop)
        with _plan_sender(group) as send_plan, exclusive_pretraining(services.settings.home):
            return run(
                services,
                request,
                progress,
                should_stop,
                lambda current, data: send_plan(TrainingPlan(run=current, data=data)),
            )


class _PlanSender:
    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self.sent = False

    def __call__(self, plan: TrainingPlan | None) -> None:
        self.sent = True
        self._group.broadcast_bytes(plan.model_dump_json().encode() if plan else b"")


@contextmanager
def _plan_sender(group: ProcessGroup) -> Iterator[_PlanSender]:
    """Yield the function that sends the plan. If the block ends without one, the other processes get an empty message,
    so that they do not wait forever."""
    send_plan = _PlanSender(group)
    try:
        yield send_plan
    finally:
        if not send_plan.sent:
            with suppress(RuntimeError):  # they are gone; the error of this process matters more
                send_plan(None)


def _join_training(services: Services, request: PretrainRequest, group: ProcessGroup, should_stop: ShouldStop) -> str:
    message = group.broadcast_bytes()
    if not message:
        return "The first process has nothing to train on."
    plan = TrainingPlan.model_validate_json(message)
    recipe = dict(plan.run.recipe)
    if not is_readable(recipe["weights"]):  # the first process sends its weights to all when the training begins
        recipe["weights"] = "random"
    current = plan.run.model_copy(update={"prepared": request.prepared, "recipe": recipe})
    train(services, current, plan.data, request, ignore_steps, should_stop)
    return f"Process {group.rank + 1} of {group.world_size} has taken part in the training."
