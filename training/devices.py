"""Devices: which one to compute on, and which number format it trains fastest in."""

import time

import torch
from torch import nn

from taxonomist.taxonomy.errors import TrainingError

_WORTHWHILE = 0.9  # of the time in single precision; a smaller gain is not worth the lost digits
_ROUNDS = 3


def device_kind(device: str, devices: int = 1) -> str:
    """Return "cuda" or "cpu" for a device setting; "auto" is a GPU where there is one.

    Raises TrainingError when there are fewer GPUs than `devices`.
    """
    available = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if available else "cpu"
    if device == "cuda" and available < devices:
        raise TrainingError(
            f"{devices} GPUs are requested, and torch {torch.__version__} finds {available or 'none'}.",
            hint="Choose fewer devices, or the device auto or cpu; nvidia-smi lists the GPUs.",
        )
    return device


def device_name(kind: str, count: int = 1) -> str:
    """Return the name of `count` devices of a kind for people, such as "2 x NVIDIA H100"."""
    name = torch.cuda.get_device_name() if kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{count} x {name}" if count > 1 else name


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device(device_kind("auto"))


def choose_precision(device: torch.device) -> str:
    """Return "bf16-mixed" when the device is clearly faster with it, else "32-true"; a GPU without bfloat16 gets
    "16-mixed". The names are Lightning's.

    A CPU is measured: on one bfloat16 halves the time of a step, on another it multiplies it.
    """
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(32, 64, 16, 16).contiguous(memory_format=torch.channels_last)
        faster = _seconds(layer, x, bfloat16=True) < _WORTHWHILE * _seconds(layer, x, bfloat16=False)
        return "bf16-mixed" if faster else "32-true"


def _seconds(layer: nn.Module, x: torch.Tensor, *, bfloat16: bool) -> float:
    """Return the time of the fastest of some passes, forward and backward: the one that other processes disturb least.

    One more pass than `_ROUNDS` warms up.
    """
    best = float("inf")
    for _ in range(1 + _ROUNDS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = layer(x)
        y.float().sum().backward()
        best = min(best, time.perf_counter() - started)
    return best
