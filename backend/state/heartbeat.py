"""The worker's sign of life: a small file in the home folder, replaced whole every few seconds."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

FRESH_S = 30.0


def beat(home: Path) -> None:
    """Note that this process, the worker, is alive now."""
    new = home / f".worker-{os.getpid()}.json"
    new.write_text(json.dumps({"at": time.time(), "pid": os.getpid()}), encoding="utf-8")
    new.replace(home / "worker.json")


def age(home: Path) -> float | None:
    """Seconds since the worker was last seen; None when none ever was."""
    try:
        return max(0.0, time.time() - float(json.loads((home / "worker.json").read_text(encoding="utf-8"))["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
