"""The step, on a CPU; test_recorded_step has what needs a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from taxonomist.training.pretraining.batches import BatchSchedule, ImageSelection
from taxonomist.training.pretraining.contrastive_views import view_parameters
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions
from taxonomist.training.pretraining.step import PretrainingStep, StepInputs
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE

pytestmark = pytest.mark.usefixtures("one_thread", "small")


def step_of(recipe: Recipe, group: ProcessGroup | None = None) -> PretrainingStep:
    return PretrainingStep(
        ImageSelection(small_images()),
        recipe,
        None,
        device=torch.device("cpu"),
        number_format="32-true",
        process_group=group or ProcessGroup(),
    )


def test_sizes_grow_in_equal_shares() -> None:
    step = step_of(replace(RECIPE, sizes=(8, 12), epochs=3))
    assert [step.size_at(number) for number in range(12)] == [8] * 4 + [12] * 4 + [16] * 4


def test_equal_numbers_give_the_losses_of_an_earlier_release() -> None:
    """The release trained with pytorch-lightning; the file has the losses of its first five steps."""
    step = step_of(RECIPE)
    losses = []
    with closing(step.inputs(0)) as inputs:
        for prepared in islice(inputs, 5):
            step.run(prepared)
            losses.append(float(step.loss))
    with np.load(Path(__file__).parent / "earlier_release.npz") as earlier:
        np.testing.assert_allclose(losses, earlier["losses"], rtol=1e-4)
        means = step.means()
        assert means == pytest.approx((earlier["losses"].mean(), earlier["projection_stds"].mean()), rel=1e-4)


def test_the_learning_rate_rises_and_falls() -> None:
    step = step_of(replace(RECIPE, warmup=0.25))
    rates = [step.learning_rate(number) / RECIPE.lr for number in range(16)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.03


def test_the_inputs_of_two_processes_are_those_of_one() -> None:
    """So the number of devices changes neither the images of a batch nor their views."""
    recipe = replace(RECIPE, local_views=1, local_size=8)
    with closing(step_of(recipe).inputs(0)) as inputs:
        whole = next(inputs)
    parts = []
    for rank in (0, 1):
        step = step_of(recipe, ProcessGroup(rank, 2, 2))
        with closing(step.inputs(0)) as inputs:
            parts.append(next(inputs))
    n = RECIPE.batch
    for start in (0, n, 2 * n):  # queries, keys, and what they show
        assert torch.equal(
            torch.cat([part.rows[start // 2 : start // 2 + n // 2] for part in parts]), whole.rows[start : start + n]
        )
    assert all(torch.equal(part.rows[-n:], whole.rows[-n:]) for part in parts)  # the order of all keys
    views = [inputs.numbers[:-1].view(3, -1, 25) for inputs in (*parts, whole)]
    torch.testing.assert_close(torch.cat(views[:2], 1), views[2])
    assert whole.images is not None
    assert whole.images.shape == (2, n, 24, 24, 3)


def test_a_batch_that_does_not_divide_leaves_some_images_out() -> None:
    with closing(step_of(RECIPE, ProcessGroup(2, 3, 3)).inputs(0)) as inputs:
        prepared = next(inputs)
    assert len(prepared.rows) == 3 * 5 + 15
    assert sorted(prepared.rows[-15:].tolist()) == list(range(15))


def test_only_a_few_steps_are_prepared_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(replace(RECIPE, epochs=1000))
    prepared: list[int] = []
    prepare = step._prepare

    def counted(schedule: BatchSchedule, number: int) -> Callable[[], StepInputs]:
        prepared.append(number)
        return prepare(schedule, number)

    monkeypatch.setattr(step, "_prepare", counted)
    with closing(step.inputs(10)) as inputs:
        assert [next(inputs).step for _ in range(3)] == [10, 11, 12]
    assert max(prepared) <= 10 + 3 + 4


def test_on_a_cpu_torch_computes_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second thread would get a team of OpenMP's, whose size slows down that of the training."""
    step, computing, reading = step_of(RECIPE), set(), set()
    take = step._images.take

    def parameters(numbers: Tensor, options: ViewOptions) -> Tensor:
        computing.add(threading.get_ident())
        return view_parameters(numbers, options)

    def taken(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        reading.add(threading.get_ident())
        return take(rows)

    monkeypatch.setattr("taxonomist.training.pretraining.step.view_parameters", parameters)
    monkeypatch.setattr(step._images, "take", taken)
    with closing(step.inputs(0)) as inputs:
        next(inputs)
    assert computing == {threading.get_ident()}
    assert reading.isdisjoint(computing)
