"""Which number format a device trains fastest in, found by trying: on one CPU bfloat16 halves the time of a step, on
another it multiplies it."""

import time

import torch
from torch import nn

_WORTH = 0.9  # of the time in single precision; less is not worth the lost digits
_ROUNDS = 3


def choose_precision(device: torch.device) -> str:
    """ "bf16-mixed" where the device is clearly faster with it, else "32-true"; Lightning's names."""
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(32, 64, 16, 16).contiguous(memory_format=torch.channels_last)
        return "bf16-mixed" if _seconds(layer, x, half=True) < _WORTH * _seconds(layer, x, half=False) else "32-true"


def _seconds(layer: nn.Module, x: torch.Tensor, *, half: bool) -> float:
    """The quickest of some passes, forward and back: what the device can do when nobody disturbs it."""
    best = float("inf")
    for _ in range(1 + _ROUNDS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = layer(x)
        y.float().sum().backward()
        best = min(best, time.perf_counter() - started)
    return best
