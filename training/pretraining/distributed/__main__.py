"""One process of a pre-training over several devices. `pretrain(..., devices=4)` starts four of them by torchrun.

On several machines: call `pretrain(..., devices=4, nodes=2)`, or `taxonomist pretrain --devices 4 --nodes 2`, on one
of them. It writes its inputs into the run's folder, which both must see under the same path, like the prepared images,
and prints the command to start on each, such as

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint FIRST-NODE:29500 \\
        -m taxonomist.training.pretraining.distributed HOME/pretraining/run

FIRST-NODE is the name of one of the machines. When that has ended, the first call, repeated, finds the run finished.
Interrupted or killed, the command resumes from the last checkpoint, with any number of devices.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.training.pretraining.distributed.exchange import is_wanted, write_error, write_status
from taxonomist.training.pretraining.distributed.inputs import FOLDER, PretrainingInputs
from taxonomist.training.pretraining.interruption import Interrupted
from taxonomist.training.pretraining.pretrain import pretrain

_CHECK_INTERVAL = 0.5  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Take part in a training; return 0 when it is finished or was interrupted, else 1."""
    parser = argparse.ArgumentParser(
        "python -m taxonomist.training.pretraining.distributed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--child", action="store_true", help="end when the process that started this one has ended")
    options = parser.parse_args(arguments)
    shared = options.folder / FOLDER
    depends_on_starter = options.child and os.environ.get("RANK", "0") == "0"
    try:
        inputs, device = PretrainingInputs.read(shared)
        pretrain(
            inputs.images,
            inputs.recipe,
            options.folder,
            rows=inputs.rows,
            groups=inputs.groups,
            probe=inputs.probe,
            device=device,
            checkpoint_interval=inputs.checkpoint_interval,
            on_status=lambda status: write_status(shared, status),
            should_stop=_is_unwanted(shared) if depends_on_starter else None,
        )
    except TaxonomistError as error:
        write_error(shared, error)
        print(error, file=sys.stderr)  # noqa: T201 - into the log
        return 0 if isinstance(error, Interrupted) else 1
    return 0


def _is_unwanted(shared: Path) -> Callable[[], bool]:
    """Return a function that checks twice a second whether the starting process has ended, and remembers the answer."""
    checked, unwanted = 0.0, False

    def check() -> bool:
        nonlocal checked, unwanted
        if time.monotonic() - checked > _CHECK_INTERVAL:
            checked, unwanted = time.monotonic(), not is_wanted(shared)
        return unwanted

    return check


if __name__ == "__main__":
    sys.exit(main())
