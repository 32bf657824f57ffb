"""The worker's heartbeat: a small file in the home folder, replaced every few seconds."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT, format_of

FRESH_S = 30.0
VERSION = 1


def beat(home: Path) -> None:
    """Store that this process, the worker, is alive now. Raises `StorageError`."""
    content = {FORMAT: VERSION, "at": time.time(), "pid": os.getpid()}
    with storage_errors(home):
        write_atomically(home / "worker.json", json.dumps(content).encode(), sync=False)


def age(home: Path) -> float | None:
    """Return the seconds since the worker's last heartbeat; None when there is none that this release can read.

    A heartbeat from the future, of a worker whose clock was ahead, is none: a worker that lives replaces it soon.
    """
    try:
        content = json.loads((home / "worker.json").read_text(encoding="utf-8"))
        if format_of(content) != VERSION:
            return None
        seconds = time.time() - float(content["at"])
        return max(0.0, seconds) if seconds > -FRESH_S else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
