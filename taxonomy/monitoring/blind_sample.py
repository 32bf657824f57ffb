"""The tasks that get no suggestion, as an honest sample."""

from __future__ import annotations

import hashlib

__all__ = ["is_blind"]


def is_blind(project: str, task_id: str, share: float) -> bool:
    """Return whether a task is one of the `share` (0 to 1) of a project's tasks that get no suggestion.

    It depends on a hash of the project and the task alone, so each process, version and replay draws the same tasks,
    and a larger share contains those of a smaller one.
    """
    digest = hashlib.sha256(f"blind\x1f{project}\x1f{task_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
