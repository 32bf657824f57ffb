"""The processes that train one model together: one for each device, or just this one.

torchrun and Azure ML describe the group to each process in its environment: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR
and MASTER_PORT, and NODE_RANK where there are several machines. The terms are those of torch.distributed,
https://docs.pytorch.org/docs/stable/distributed.html.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class ProcessGroup:
    """The number of this process, that of all processes, and that of the processes on this machine.

    It communicates between CPUs, so that no process waits for a GPU. All processes must call its methods alike.
    `broadcast_tensors` and `average_gradients` communicate between the devices.
    """

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    _group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of machines."""
        return self.world_size // self.local_world_size

    def broadcast(self, *numbers: float) -> list[float]:
        """Return the numbers that the first process passes."""
        if self._group is None:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(shared, 0, group=self._group)
        return [float(number) for number in shared]

    def broadcast_bytes(self, message: bytes = b"") -> bytes:
        """Return the message that the first process passes."""
        if self._group is None:
            return message
        (length,) = self.broadcast(len(message))
        if not length:
            return b""
        buffer = bytearray(message if self.is_first else int(length))
        shared = torch.frombuffer(buffer, dtype=torch.uint8)
        dist.broadcast(shared, 0, group=self._group)
        return shared.numpy().tobytes()

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors on the devices, in place, by those of the first process."""
        if self._group is not None:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of parameters, in place, by their mean over all processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._group is None or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def gather(self, *numbers: float) -> list[list[float]]:
        """Return the numbers that each process passes, by rank."""
        if self._group is None:
            return [list(numbers)]
        shared = torch.zeros(self.world_size, len(numbers), dtype=torch.float64)
        shared[self.rank] = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(shared, group=self._group)
        rows: list[list[float]] = shared.tolist()
        return rows

    def max(self, number: int) -> int:
        """Return the largest number that a process passes."""
        if self._group is None:
            return number
        shared = torch.tensor(number)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        return int(shared)

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        self.broadcast(0)


def started_by_torchrun() -> bool:
    """Return whether this process is one of several that torchrun, or a launcher like it, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(kind: str) -> Iterator[ProcessGroup]:
    """Connect to the processes that torchrun has started with this one; `kind` is "cuda" or "cpu".

    Blocks may be nested. The other processes wait for half an hour for one that does not connect.
    """
    if not started_by_torchrun():
        yield ProcessGroup()
        return
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    outermost = not dist.is_initialized()
    if outermost:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)  # this process is one of its members
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), _local_world_size(group), group)
    finally:
        if outermost:
            dist.destroy_process_group()


def _local_world_size(group: dist.ProcessGroup) -> int:
    """Return the number of processes on a machine, by the highest local rank: Azure ML sets no LOCAL_WORLD_SIZE."""
    highest = torch.tensor(int(os.environ["LOCAL_RANK"]))
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
    return int(highest) + 1
