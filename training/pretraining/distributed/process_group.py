"""The processes that train one model together: one for each device, or just this one.

Whoever starts them, torchrun or Azure ML, tells each of them about the others in its environment: RANK, LOCAL_RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and NODE_RANK where there are several machines.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from taxonomist.taxonomy.errors import TrainingError

_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Team:
    """Number of this process, how many there are, and how many of them are on this machine.

    What it tells goes from CPU to CPU, so that nobody waits for a GPU.
    """

    number: int = 0
    size: int = 1
    here: int = 1
    _group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        return self.number == 0

    @property
    def nodes(self) -> int:
        return self.size // self.here

    def as_first(self, *numbers: float) -> list[float]:
        """The numbers that the first process has; to be called by all of them."""
        if self._group is None:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(shared, 0, group=self._group)
        return [float(number) for number in shared]

    def share(self, message: bytes = b"") -> bytes:
        """The message of the first process; to be called by all of them."""
        if self._group is None:
            return message
        (length,) = self.as_first(len(message))
        if not length:
            return b""
        mine = bytearray(message if self.is_first else int(length))
        shared = torch.frombuffer(mine, dtype=torch.uint8)
        dist.broadcast(shared, 0, group=self._group)
        return shared.numpy().tobytes()

    def any(self, here: bool) -> bool:
        """Whether it is so in any of the processes; to be called by all of them."""
        if self._group is None:
            return here
        shared = torch.tensor(int(here))
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        return bool(shared)

    def wait(self) -> None:
        """Until all processes have come here."""
        self.as_first(0)


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun, or who does as it does, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def team(kind: str) -> Iterator[Team]:
    """The processes that torchrun has started with this one, connected; `kind` is "cuda" or "cpu".

    Blocks may be nested. The others wait for half an hour for a process that does not come.
    """
    if not started_by_torchrun():
        yield Team()
        return
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        assert isinstance(group, dist.ProcessGroup)  # this process is one of its members
        here = _how_many_here(group)
        yield Team(dist.get_rank(), dist.get_world_size(), here, group)
    finally:
        if ours:
            dist.destroy_process_group()


def _how_many_here(group: dist.ProcessGroup) -> int:
    """How many processes are on a machine, by the highest of their numbers there: Azure ML sets no LOCAL_WORLD_SIZE."""
    highest = torch.tensor(int(os.environ["LOCAL_RANK"]))
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
    return int(highest) + 1


def device_kind(device: str, devices: int = 1) -> str:
    """ "cuda" or "cpu" for a device by name, "auto" being what there is.

    Raises TrainingError when there are fewer GPUs than are asked for.
    """
    there = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if there else "cpu"
    if device == "cuda" and there < devices:
        raise TrainingError(
            f"{devices} GPUs are asked for, and torch {torch.__version__} finds {there or 'none'} here.",
            hint="Choose fewer devices, or the device auto or cpu; nvidia-smi shows what there is.",
        )
    return device
