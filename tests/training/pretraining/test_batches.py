"""Which images a step sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from taxonomist.training.pretraining.batches import BatchSchedule, ImageSelection
from tests.training.pretraining.small_images import small_images


def test_each_epoch_sees_every_image_once() -> None:
    schedule = BatchSchedule(count=50, batch=10, seed=1)
    epochs = [np.concatenate([schedule.rows(step)[0] for step in range(at, at + 5)]) for at in (0, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    np.testing.assert_array_equal(BatchSchedule(count=50, batch=10, seed=1).rows(7)[0], schedule.rows(7)[0])


def test_partners_are_of_the_same_group() -> None:
    groups = np.array([0, 0, 0, 7, 7, -1, -1, 3])
    schedule = BatchSchedule(count=8, batch=8, seed=0, groups=groups)
    partners: dict[int, set[int]] = {}
    for step in range(60):
        for row, key in zip(*schedule.rows(step), strict=True):
            partners.setdefault(int(row), set()).add(int(key))
    assert partners == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}, 3: {3, 4}, 4: {3, 4}, 5: {5}, 6: {6}, 7: {7}}
    ids = schedule.ids(np.arange(8))
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids.tolist())) == 5


def test_devices_share_a_batch() -> None:
    whole = BatchSchedule(count=64, batch=16, seed=2).rows(3)[0]
    parts = [BatchSchedule(count=64, batch=16, seed=2, rank=rank, world_size=2).rows(3)[0] for rank in (0, 1)]
    assert [len(part) for part in parts] == [8, 8]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_a_selection_comes_whole_onto_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.training.pretraining.batches._CHUNK", 7)
    rows = np.array([5, 3, 60, 1, 0, 63, 22, 9, 8, 8])
    selection = ImageSelection(small_images(), rows)
    np.testing.assert_array_equal(selection.on(torch.device("cpu")).numpy(), small_images()[rows])
    assert selection.nbytes == small_images()[rows].nbytes


def test_mixed_positives_are_of_the_same_image_in_half_of_the_cases() -> None:
    groups = np.arange(4000) // 20
    schedule = BatchSchedule(4000, 4000, 0, groups, same_image=0.5)
    queries, keys = schedule.rows(0)
    assert (groups[queries] == groups[keys]).all()
    assert 0.45 < (queries == keys).mean() < 0.6  # 0.5, and one in twenty of the others
