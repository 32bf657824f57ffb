"""`python -m backend.pretraining.humble …` is `taxonomist …`, behind everybody else and not on the first core.

A module of its own that imports nothing: niceness and cores are a thread's, and only threads that are made later
inherit them, whereas numpy makes its own as soon as it is imported.
"""

import contextlib
import os

NICENESS = 10  # a tenth of a core beside a busy neighbour; 19 leaves it 1.5 %, and the pre-training stands still


def be_humble() -> None:
    """Let everybody else go first, and leave the first core to those who serve, where there are several."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            with contextlib.suppress(OSError):  # a container may forbid it
                os.sched_setaffinity(0, cores[1:])


if __name__ == "__main__":
    be_humble()
    from backend.cli import main

    main()
