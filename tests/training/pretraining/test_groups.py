"""One group for nearly all images: said before the training, and positives of one image instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining import loop
from taxonomist.training.pretraining.batches import RowIndices, with_usable_groups
from taxonomist.training.pretraining.pretrain import pretrain
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE, losses

GROUPED = replace(RECIPE, positives="group")


def shares(*sizes: int, without: int = 0) -> RowIndices:
    """Return group numbers of groups of these sizes, and of images without a group."""
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    return np.array([*numbers, *[-1] * without], np.int64)


@pytest.mark.parametrize("groups", [shares(64), shares(63, 1), shares(33, 31), shares(40, without=24)])
def test_most_images_of_one_group(groups: RowIndices, caplog: pytest.LogCaptureFixture) -> None:
    recipe, used = with_usable_groups(GROUPED, groups)
    assert (recipe.positives, used) == ("image", None)
    assert "of 64 images are of one product" in caplog.text


@pytest.mark.parametrize(
    "groups", [None, shares(32, 32), shares(*[2] * 32), shares(without=64), shares(30, without=34)]
)
def test_groups_that_leave_negatives_are_used(
    groups: RowIndices | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert with_usable_groups(GROUPED, groups) == (GROUPED, groups)
    assert with_usable_groups(RECIPE, shares(64))[0] == RECIPE  # its positives are of one image anyway
    assert caplog.messages == []


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "small")
def test_one_group_trains_as_without_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = pretrain(small_images(), GROUPED, tmp_path / "one", groups=shares(64), device="cpu")
    assert done.summary["recipe"]["positives"] == "image"
    assert "64 of 64 images are of one product" in caplog.text
    pretrain(small_images(), RECIPE, tmp_path / "none", device="cpu")
    assert losses(tmp_path / "one") == losses(tmp_path / "none")
    assert all(loss > 0.1 for _, loss in losses(tmp_path / "one"))
    again = pretrain(small_images(), GROUPED, tmp_path / "one", groups=shares(64), device="cpu")
    assert again.summary["finished_at"] == done.summary["finished_at"]


def test_a_loss_of_exactly_zero_is_an_error() -> None:
    with pytest.raises(TrainingError, match="exactly zero after 4 steps"):
        loop._check_health(0.0, 1.0, 4)
    loop._check_health(1e-12, 1.0, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "small")
def test_a_run_without_negatives_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.training.pretraining.batches._LARGEST_SHARE", 1.0)
    with pytest.raises(TrainingError, match="exactly zero"):
        pretrain(small_images(), GROUPED, tmp_path, groups=shares(64), device="cpu")
