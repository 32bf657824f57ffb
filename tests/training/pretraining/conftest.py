"""Fixtures for short pre-trainings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from taxonomist.training.pretraining.pretrain import (
    PretrainingResult,
    pretrain,
)
from tests.training.pretraining.small_encoder import small_backbone
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE, probe


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch computes on one core, so that runs are reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a small encoder instead of ResNet18, whose checkpoints are 135 MB."""
    monkeypatch.setattr("taxonomist.training.pretraining.step.build_backbone", small_backbone)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> PretrainingResult:
    """A run of the small encoder without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taxonomist.training.pretraining.step.build_backbone", small_backbone)
        return pretrain(small_images(), RECIPE, tmp_path_factory.mktemp("unbroken"), probe=probe(), device="cpu")
