"""The recorded step against the eager one, on a GPU. `benchmarks/gpu.sh` runs these where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from taxonomist.training.pretraining.batches import ImageSelection
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.loop import fast_kernels
from taxonomist.training.pretraining.recipe import PRESETS, Recipe
from taxonomist.training.pretraining.step import PretrainingStep
from tests.training.pretraining.small_images import small_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

STEPS = 50
RECIPES = {
    "thesis": replace(PRESETS["thesis"], weights="random", size=64, batch=64, queue=512),
    "default": replace(PRESETS["default"], weights="random", size=64, batch=64, sizes=(48,), epochs=6),
}


@contextmanager
def deterministic() -> Iterator[None]:
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


def losses(recipe: Recipe, number_format: str, *, recorded: bool, resident: bool = True) -> np.ndarray:  # type: ignore[type-arg]
    images = small_images(640, 96)
    device = torch.device("cuda", 0)
    with pytest.MonkeyPatch.context() as patch:
        if not resident:
            patch.setattr("taxonomist.training.pretraining.step._SHARE_OF_MEMORY", 0.0)
        step = PretrainingStep(
            ImageSelection(images),
            recipe,
            np.arange(640) // 8,
            device=device,
            number_format=number_format,
            process_group=ProcessGroup(),
            recorded=recorded,
        )
    found = []
    with fast_kernels(device, mixed=step.autocast is not None):
        for inputs, _ in zip(step.inputs(0), range(STEPS), strict=False):
            step.run(inputs)
            found.append(float(step.loss))
    assert (step._graph is not None) == recorded
    return np.array(found)


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("number_format", ["32-true", "bf16-mixed"])
def test_eager_and_recorded_step_agree(name: str, number_format: str) -> None:
    exact = number_format == "32-true"
    with deterministic() if exact else nullcontext():
        eager, recorded = (losses(RECIPES[name], number_format, recorded=value) for value in (False, True))
    largest = np.abs(recorded / eager - 1).max()
    means = eager.mean(), recorded.mean()
    print(f"{name}, {number_format}: largest relative difference {largest:.2e}, means {means[0]:.5f} {means[1]:.5f}")  # noqa: T201
    assert eager[-1] != eager[0]
    if exact:
        np.testing.assert_allclose(recorded, eager, rtol=1e-3)
    else:
        assert means[1] == pytest.approx(means[0], rel=0.01)


def test_images_that_do_not_fit_are_sent_with_each_step() -> None:
    with deterministic():
        resident, sent = (
            losses(RECIPES["default"], "32-true", recorded=True, resident=value) for value in (True, False)
        )
    np.testing.assert_allclose(sent, resident, rtol=1e-3)


def test_the_queue_advances_in_a_recorded_step() -> None:
    recipe = RECIPES["default"]
    step = PretrainingStep(
        ImageSelection(small_images(640, 96)),
        recipe,
        None,
        device=torch.device("cuda", 0),
        number_format="bf16-mixed",
        process_group=ProcessGroup(),
    )
    places = []
    for inputs, _ in zip(step.inputs(0), range(8), strict=False):
        step.run(inputs)
        places.append(int(step.moco.queue_ptr))
    queue = recipe.queue_for(640)
    assert places == [(number + 1) * recipe.batch % queue for number in range(8)]
