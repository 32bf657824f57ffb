"""Devices and precision."""

from __future__ import annotations

import torch

from taxonomist.training.devices import choose_precision


def test_precision_is_one_that_lightning_knows() -> None:
    assert choose_precision(torch.device("cpu")) in {"32-true", "bf16-mixed"}
