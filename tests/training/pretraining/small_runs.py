"""Short pre-trainings on small images."""

from __future__ import annotations

import csv
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taxonomist.training.pretraining.pretrain import (
    Interrupted,
    Probe,
    pretrain,
)
from taxonomist.training.pretraining.recipe import Recipe
from tests.training.pretraining.small_images import small_images

RECIPE = Recipe(size=16, batch=16, epochs=4, queue=32, shuffle_groups=2)
"""Four epochs of four steps each on `small_images`."""


def probe() -> Probe:
    return Probe(small_images(), np.arange(64) % 4, np.arange(64) % 4, np.arange(64) >= 32)


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "curves.csv").open() as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def stopped(folder: Path, after: int, **options: Any) -> None:
    """Train until the run is stopped in the step after `after` steps."""
    calls = iter([False] * after + [True])
    with pytest.raises(Interrupted):
        pretrain(small_images(), RECIPE, folder, device="cpu", should_stop=calls.__next__, **options)


def train_on_one_thread(folder: Path, began: Event) -> None:
    """Set `began` and train, in a process of its own."""
    torch.set_num_threads(1)
    began.set()
    pretrain(small_images(), RECIPE, folder, probe=probe(), device="cpu", checkpoint_interval=0.2)
