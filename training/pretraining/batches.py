"""Which pictures a step sees: a function of the seed and the step alone, so that a run can go on at any step."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

Rows = npt.NDArray[np.int64]
Batch = tuple[int, Tensor, Tensor, Tensor]
_CHUNK = 4096  # pictures that are copied at once


class Schedule:
    """`count` pictures in an order drawn anew for each epoch, cut into batches; the rest that is too small for one is
    left out, other pictures each time.

    With `groups` (count,) the key shows a picture of the same group as the query; -1 stands for no group. `share` is
    (number of this device, devices): each sees its own part of every batch, and one after the other they are the batch.
    """

    def __init__(
        self, count: int, batch: int, seed: int, groups: Rows | None = None, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.steps_per_epoch = max(1, count // batch)
        self._count, self._batch, self._seed, self._groups, self._share = count, batch, seed, groups, share
        self._epoch = -1
        self._order: Rows = np.arange(0)
        self._members: Rows = np.arange(0) if groups is None else np.argsort(groups, kind="stable")

    def rows(self, step: int) -> tuple[Rows, Rows]:
        """Rows of the pictures of a step, of the queries and of the keys, each (batch / devices,)."""
        epoch, at = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        rows = self._order[at * self._batch : (at + 1) * self._batch]
        keys = self._partners(rows, np.random.default_rng([self._seed, epoch, at]))
        number, devices = self._share
        part = len(rows) // devices
        mine = slice(number * part, (number + 1) * part)
        return (rows[mine], keys[mine]) if keys is not rows else (rows[mine],) * 2

    def ids(self, rows: Rows) -> Rows:
        """What each of the pictures shows (n,): its group, else itself."""
        if self._groups is None:
            return rows
        groups = self._groups[rows]
        return np.where(groups >= 0, groups, self._groups.max() + 1 + rows)

    def _partners(self, rows: Rows, random: np.random.Generator) -> Rows:
        if self._groups is None:
            return rows
        wanted = self._groups[rows]
        in_order = self._groups[self._members]
        first = np.searchsorted(in_order, wanted, side="left")
        behind = np.searchsorted(in_order, wanted, side="right")
        drawn = self._members[first + (random.random(len(rows)) * (behind - first)).astype(np.int64)]
        return np.where(wanted >= 0, drawn, rows)


class Selection:
    """Some `rows` (n,) of pictures uint8 (m, s, s, 3), perhaps a file larger than memory; None stands for all."""

    def __init__(self, pictures: npt.NDArray[np.uint8], rows: Rows | None = None) -> None:
        self.pictures, self.rows = pictures, rows

    def __len__(self) -> int:
        return len(self.pictures if self.rows is None else self.rows)

    @property
    def nbytes(self) -> int:
        return len(self) * self.pictures[:1].nbytes

    def take(self, at: Rows | int) -> npt.NDArray[np.uint8]:
        """The pictures at these places of the selection, in memory."""
        return np.asarray(self.pictures[at if self.rows is None else self.rows[at]])

    def on(self, device: torch.device) -> Tensor:
        """All of them on a device."""
        there = torch.empty((len(self), *self.pictures.shape[1:]), dtype=torch.uint8, device=device)
        for start in range(0, len(self), _CHUNK):
            at = np.arange(start, min(start + _CHUNK, len(self)))
            there[start : start + _CHUNK] = torch.from_numpy(self.take(at))
        return there


class Batches(IterableDataset[Batch]):
    """The steps from `start` to before `stop`: each (step, ids, queries, keys).

    Queries and keys are pictures uint8 (n, s, s, 3), or their rows (n,) when `pictures` is None: then whoever takes
    them has the pictures at hand.
    """

    def __init__(self, pictures: Selection | None, schedule: Schedule, start: int, stop: int) -> None:
        self._pictures, self._schedule, self._steps = pictures, schedule, range(start, stop)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Batch]:
        for step in self._steps:
            rows, keys = self._schedule.rows(step)
            queries = self._take(rows)
            yield (
                step,
                torch.from_numpy(self._schedule.ids(rows)),
                queries,
                queries if keys is rows else self._take(keys),
            )

    def _take(self, rows: Rows) -> Tensor:
        return torch.from_numpy(rows if self._pictures is None else self._pictures.take(rows))
