"""The sizes of views."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taxonomist.training.pretraining.batches import ImageSelection
from taxonomist.training.pretraining.moco_module import MoCoModule
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_sizes_grow_in_equal_shares(small: None) -> None:
    module = MoCoModule(ImageSelection(small_images()), replace(RECIPE, sizes=(8, 12), epochs=3), None, 4)
    assert [module.size_at(step) for step in range(12)] == [8] * 4 + [12] * 4 + [16] * 4
