"""Status, collapse and divergence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.pretrain import (
    Status,
    pretrain,
)
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_progress_is_reported(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.training.pretraining.loop._STATUS_INTERVAL", 0)
    statuses: list[Status] = []
    pretrain(small_images(), RECIPE, tmp_path, device="cpu", on_status=statuses.append)
    assert [status.step for status in statuses] == list(range(1, 17))
    assert [status.seen for status in statuses] == list(range(16, 257, 16))
    assert all(0 < status.images_per_s < 1e6 and status.seconds_left >= 0 for status in statuses)
    assert statuses[-1].seconds_left == 0


def test_a_collapsed_embedding_stops_the_run(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.training.pretraining.loop._SETTLED_STEPS", 2)
    same = np.full((64, 24, 24, 3), 200, np.uint8)  # identical images
    views = replace(RECIPE.views, jitter=0.0, grey=0.0)
    with pytest.raises(TrainingError, match="collapsed"):
        pretrain(same, replace(RECIPE, epochs=2, lr=1e-6, views=views), tmp_path, device="cpu")


def test_a_loss_that_is_not_finite_stops_the_run(small: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        pretrain(small_images(), replace(RECIPE, lr=1e30), tmp_path, device="cpu")
