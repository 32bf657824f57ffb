"""A command on a pseudo-terminal, as a person runs it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def run_on_terminal(
    program: Sequence[str],
    answers: Iterable[tuple[str, str]],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float = 120,
) -> tuple[int, str]:
    """Run a program and type each answer after the text before it is shown; return exit code and what was shown."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        program,
        cwd=folder,
        env={**environment, "COLUMNS": "500", "TERM": "dumb"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    deadline = time.monotonic() + timeout
    shown = ""
    seen = 0  # characters of `shown` before which nothing is looked for
    try:
        for question, answer in answers:
            while question not in shown[seen:]:
                more = _read(leader, deadline)
                assert more, f"{question!r} was not asked:\n{shown}"
                shown += more
            seen = len(shown)
            os.write(leader, f"{answer}\n".encode())
        while more := _read(leader, deadline):
            shown += more
        return process.wait(timeout=10), shown.replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def _read(leader: int, deadline: float) -> str:
    """Return what the program has written; "" at its end or after the deadline."""
    ready, _, _ = select.select([leader], [], [], max(0.0, deadline - time.monotonic()))
    try:
        return os.read(leader, 65536).decode(errors="replace") if ready else ""
    except OSError:  # the program has ended
        return ""
